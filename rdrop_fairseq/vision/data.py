"""Images with labels, and which of them an update takes: the same images whatever the number of workers."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, tee
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.vision.models import settings
from rdrop_fairseq.vision.options import Options
from rdrop_fairseq.vision.packages import package
from rdrop_fairseq.vision.workers import Workers

Transform = Callable[..., Tensor]
Batch = tuple[Tensor, Tensor]  # pixels [n, C, H, W] fp32, labels [n] int64
SMALLEST_CROP = 0.05  # share of the image's area; the paper's code and Google's
DIGITS_TEST, DIGITS_VALID = 497, 300  # of 1,797; up to 1,000 are left for training
WAYS = {  # to bring images to the place
    "cifar100": "put cifar-100-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html there",
    "imagefolder": "train and val there must hold a folder of images for each class, as torchvision.datasets.ImageNet "
    "unpacks ImageNet's archives",
}


def seed_of(*numbers: int) -> int:
    """One seed of several numbers, below 2^63."""
    return functools.reduce(lambda value, number: (value * 1_000_003 + number) % (1 << 63), numbers, 0)


class Images(Dataset[tuple[Tensor, int]]):
    """Some images of a data set, transformed. Of n images, number i of epoch e has the key e n + i. An augmentation
    depends on key and seed alone, so that neither the number of workers nor a restart changes it."""

    def __init__(self, source: Any, chosen: Sequence[int], transform: Optional[Transform], seed: int) -> None:
        self.source, self.chosen, self.transform, self.seed = source, chosen, transform, seed

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, key: int) -> tuple[Tensor, int]:
        epoch, number = divmod(key, len(self.chosen))
        place = self.chosen[number]
        try:
            image, label = self.source[place]
        except OSError as error:
            name = self.source.samples[place][0]  # of a folder: other images are in memory
            raise UserError(f"{name} cannot be read as an image ({error}): replace or remove it") from error
        if self.transform is not None:
            with torch.random.fork_rng(devices=[]):
                # not torch.manual_seed, which would seed the dropout of a GPU too
                torch.default_generator.manual_seed(seed_of(self.seed, epoch, place))
                image = self.transform(image)
        return image, int(label)


class Splits(NamedTuple):
    """valid is test where nothing is held out."""

    train: Images
    valid: Images
    test: Images


def load(options: Options) -> Splits:
    """The data set that the options name. Raises UserError where it is missing or has other classes than they say."""
    if options.dataset == "digits":
        return digits(options)
    pixels, transforms = settings(options.model), package("torchvision.transforms")
    train, test = sources(options.dataset, options.data)
    check_labels(train.targets, options, "the training images")
    check_labels(test.targets, options, "the test images")
    size = (options.image_size, options.image_size)
    normal = [transforms.ToTensor(), transforms.Normalize(pixels.mean, pixels.std)]
    # not timm's crop, which draws from Python's random numbers, so that no two passes would be the same
    augmented = transforms.Compose([transforms.RandomResizedCrop(size, scale=(SMALLEST_CROP, 1.0)), *normal])
    whole = transforms.Compose([transforms.Resize(size), *normal])
    order = shuffled(len(train), seed=0).tolist()
    held, kept = order[: options.holdout], order[options.holdout :]
    tested = Images(test, range(len(test)), whole, options.seed)
    valid = Images(train, held, whole, options.seed) if held else tested
    return Splits(Images(train, take(kept, options), augmented, options.seed), valid, tested)


def sources(dataset: str, root: str) -> tuple[Any, Any]:
    """The training and test images of CIFAR-100, which torchvision fetches where they are not there, and of folders."""
    found = package("torchvision.datasets")
    try:
        if dataset == "cifar100":
            return found.CIFAR100(root, train=True, download=True), found.CIFAR100(root, train=False)
        train, val = (found.ImageFolder(str(Path(root) / name)) for name in ("train", "val"))
    except (OSError, RuntimeError) as error:
        raise UserError(f"no images in {root} ({error}): {WAYS[dataset]}") from error
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise UserError(f"{root}: train and val must have the same classes; only one of them has {', '.join(odd[:5])}")
    return train, val


def digits(options: Options) -> Splits:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 grey pixels: 497 test, 300 valid, up to 1,000 train."""
    loaded = package("sklearn.datasets").load_digits()
    if options.image_size != loaded.images.shape[-1]:
        raise UserError(f"digits have 8 x 8 pixels: give --image-size 8, not {options.image_size}")
    check_labels(loaded.target.tolist(), options, "the digits")
    pixels = torch.tensor(loaded.images, dtype=torch.float32).unsqueeze(1) / 8 - 1  # [1797, 1, 8, 8], 0..16 to -1..1
    source = list(zip(pixels, loaded.target.tolist()))
    order, first = shuffled(len(source), seed=0).tolist(), DIGITS_TEST + DIGITS_VALID
    parts = take(order[first:], options), order[DIGITS_TEST:first], order[:DIGITS_TEST]
    return Splits(*(Images(source, chosen, None, options.seed) for chosen in parts))


def take(chosen: Sequence[int], options: Options) -> Sequence[int]:
    """The first `train_images` of those chosen, or all."""
    if len(chosen) < max(options.train_images, 1):
        raise UserError(f"there are {len(chosen)} training images, fewer than --train-images {options.train_images}")
    return chosen[: options.train_images or len(chosen)]


def check_labels(labels: Sequence[int], options: Options, whose: str) -> None:
    """UserError unless the labels are those of exactly as many classes as the head has."""
    if (found := set(labels)) != set(range(options.classes)):
        told = f"{len(found)} classes, labels {min(found)} to {max(found)}; the head {options.classes}"
        raise UserError(f"{whose} have {told}: see --classes")


@functools.lru_cache(maxsize=2)
def shuffled(count: int, seed: int) -> Tensor:
    """0 to count - 1 in random order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def share(update: int, images: int, options: Options, workers: Workers) -> tuple[list[int], int]:
    """This worker's keys of an update's images, and how many images it has over all workers. An epoch's random order is
    cut into batches, the last of which may be smaller; of a batch, worker r of n takes number r, r + n, ..."""
    epoch, place = divmod(update, -(-images // options.batch))
    order = shuffled(images, seed_of(options.seed, epoch))
    batch = order[place * options.batch : (place + 1) * options.batch]
    return (epoch * images + batch[workers.rank :: workers.world]).tolist(), len(batch)


def batches(images: Images, keys: Iterable[list[int]], options: Options, workers: Workers) -> Iterator[Batch]:
    """The images that `keys` lists, list by list, read ahead by processes."""
    pinned = workers.device.type == "cuda"
    return iter(DataLoader(images, batch_sampler=keys, num_workers=options.workers, pin_memory=pinned))


def updates(images: Images, options: Options, workers: Workers, done: int) -> Iterator[tuple[Iterator[Batch], int]]:
    """For each update from `done` on, this worker's pieces of it, to be taken before the next one, and its size over
    all workers. One set of processes reads ahead for all."""
    ahead, shares = tee(share(update, len(images), options, workers) for update in range(done, options.updates))
    pieces = (piece for mine, _ in ahead for piece in BatchSampler(mine, options.micro_batch, drop_last=False))
    loader = batches(images, pieces, options, workers)
    for mine, size in shares:
        yield islice(loader, -(-len(mine) // options.micro_batch)), size


def every(images: Images, options: Options, workers: Workers) -> Iterator[Batch]:
    """All images, each on one worker."""
    mine = range(workers.rank, len(images), workers.world)
    return batches(images, BatchSampler(mine, 2 * options.micro_batch, drop_last=False), options, workers)
