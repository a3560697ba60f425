"""Images with labels, and which of them an update takes: the same images whatever the number of workers."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.vision.options import Options
from rdrop_fairseq.vision.packages import package

Transform = Callable[..., Tensor]
Key = tuple[int, int]  # epoch and number of an image
MEAN = STD = (0.5, 0.5, 0.5)  # what the ViT paper's checkpoints were trained with
SMALLEST_CROP = 0.05  # share of the image's area; the paper's code and Google's
DIGITS_TEST, DIGITS_VALID = 497, 300  # of 1,797; up to 1,000 are left for training


def seed_of(*numbers: int) -> int:
    """One seed of several numbers, below 2^63."""
    value = 0
    for number in numbers:
        value = (value * 1_000_003 + number) % (1 << 63)
    return value


class Images(Dataset[tuple[Tensor, int]]):
    """Some images of a data set, transformed. An image's augmentation depends on seed, epoch and image alone, so that
    neither the number of workers nor a restart changes it."""

    def __init__(self, source: Any, chosen: Sequence[int], transform: Optional[Transform], seed: int) -> None:
        self.source, self.chosen, self.transform, self.seed = source, chosen, transform, seed

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        epoch, number = key
        place = self.chosen[number]
        try:
            image, label = self.source[place]
        except OSError as error:
            name = self.source.samples[place][0] if hasattr(self.source, "samples") else f"image {place}"
            raise UserError(f"{name} cannot be read as an image ({error}): replace or remove it") from error
        if self.transform is not None:
            generator = torch.default_generator  # not torch.manual_seed: that would seed the dropout of a GPU too
            state = generator.get_state()
            generator.manual_seed(seed_of(self.seed, epoch, place))
            image = self.transform(image)
            generator.set_state(state)
        return image, int(label)


@dataclass(frozen=True)
class Splits:
    """train, valid and test; valid is test where nothing is held out."""

    train: Images
    valid: Images
    test: Images
    channels: int


def load(options: Options) -> Splits:
    """The data set that the options name. Raises UserError where it is missing or has other classes than they say."""
    if options.dataset == "digits":
        return digits(options)
    transforms = package("torchvision.transforms")
    size = (options.image_size, options.image_size)
    normal = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    augmented = transforms.Compose([transforms.RandomResizedCrop(size, scale=(SMALLEST_CROP, 1.0)), *normal])
    whole = transforms.Compose([transforms.Resize(size), *normal])
    train, test = cifar100(options) if options.dataset == "cifar100" else folders(options)
    check_labels(train.targets, options, "the training images")
    check_labels(test.targets, options, "the test images")
    order = shuffled(len(train), seed=0).tolist()
    held, kept = order[: options.holdout], order[options.holdout :]
    tested = Images(test, range(len(test)), whole, options.seed)
    valid = Images(train, held, whole, options.seed) if held else tested
    return Splits(Images(train, take(kept, options), augmented, options.seed), valid, tested, 3)


def cifar100(options: Options) -> tuple[Any, Any]:
    """CIFAR-100's two parts, downloaded and checked by torchvision where they are not there."""
    datasets = package("torchvision.datasets")
    if not options.data:
        raise UserError("cifar100 needs a directory: --data data/cifar100")
    try:
        return tuple(datasets.CIFAR100(options.data, train=train, download=True) for train in (True, False))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"CIFAR-100 could not be brought to {options.data} ({error}): put cifar-100-python.tar.gz of "
            "https://www.cs.toronto.edu/~kriz/cifar.html there"
        ) from error


def folders(options: Options) -> tuple[Any, Any]:
    """DATA/train and DATA/val with one folder per class, the same classes in both."""
    datasets = package("torchvision.datasets")
    root = Path(options.data)
    parts = []
    for name in ("train", "val"):
        try:
            parts.append(datasets.ImageFolder(str(root / name)))
        except OSError as error:
            raise UserError(f"{root / name} must hold a folder of images for each class ({error})") from error
    train, val = parts
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise UserError(f"{root}: train and val must have the same classes; only one of them has {', '.join(odd[:5])}")
    return train, val


def digits(options: Options) -> Splits:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 grey pixels: 497 test, 300 valid, up to 1,000 train."""
    loaded = package("sklearn.datasets").load_digits()
    if options.image_size != loaded.images.shape[-1]:
        raise UserError(f"digits have 8 x 8 pixels: give --image-size 8, not {options.image_size}")
    check_labels(loaded.target, options, "the digits")
    pixels = torch.tensor(loaded.images, dtype=torch.float32).unsqueeze(1) / 8 - 1  # [1797, 1, 8, 8], 0..16 to -1..1
    source = list(zip(pixels, loaded.target.tolist()))
    order, first = shuffled(len(source), seed=0).tolist(), DIGITS_TEST + DIGITS_VALID
    parts = take(order[first:], options), order[DIGITS_TEST:first], order[:DIGITS_TEST]
    train, valid, test = (Images(source, chosen, None, options.seed) for chosen in parts)
    return Splits(train, valid, test, channels=1)


def take(chosen: Sequence[int], options: Options) -> Sequence[int]:
    """The first `train_images` of those chosen, or all."""
    if len(chosen) < max(options.train_images, 1):
        raise UserError(f"there are {len(chosen)} training images, fewer than --train-images {options.train_images}")
    return chosen[: options.train_images or len(chosen)]


def check_labels(labels: Sequence[int], options: Options, whose: str) -> None:
    """UserError unless the labels are those of exactly as many classes as the head has."""
    found = torch.as_tensor(labels).unique()
    if len(found) and (int(found[0]) < 0 or int(found[-1]) >= options.classes):
        raise UserError(f"{whose} have labels {int(found[0])} to {int(found[-1])}, outside 0 to {options.classes - 1}")
    if len(found) != options.classes:
        raise UserError(f"{whose} have {len(found)} classes, the head {options.classes}: see --classes")


@functools.lru_cache(maxsize=2)
def shuffled(count: int, seed: int) -> Tensor:
    """0 to count - 1 in random order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Order:
    """Which images each update takes: an epoch's random order, cut into batches; the last one of an epoch may be
    smaller. Of a batch, worker r of n takes the images r, r + n, ..."""

    images: int
    batch: int
    seed: int
    rank: int = 0
    world: int = 1

    @property
    def per_epoch(self) -> int:
        """Updates in an epoch."""
        return -(-self.images // self.batch)

    def size(self, update: int) -> int:
        """Images of an update, over all workers."""
        start = update % self.per_epoch * self.batch
        return min(self.batch, self.images - start)

    def mine(self, update: int) -> list[Key]:
        """This worker's images of an update; may be none."""
        epoch, place = divmod(update, self.per_epoch)
        order = shuffled(self.images, seed_of(self.seed, epoch))
        part = order[place * self.batch : (place + 1) * self.batch][self.rank :: self.world]
        return [(epoch, number) for number in part.tolist()]


def pieces(keys: Sequence[Key], size: int) -> Iterator[Sequence[Key]]:
    """`keys` in pieces of at most `size`."""
    return (keys[start : start + size] for start in range(0, len(keys), size))


def batches(images: Images, keys: Any, options: Options) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches ([n, C, H, W] fp32, [n] int64) of the lists of images that `keys` yields, read ahead by the workers."""
    pinned = torch.cuda.is_available()
    return iter(DataLoader(images, batch_sampler=keys, num_workers=options.workers, pin_memory=pinned))
