"""Image classification with R-Drop: fine-tuning a Vision Transformer of timm (paper, sections 3.5 and A.5). No fairseq.

options   one training as a dataclass, from a YAML of configs/vit/ and the command line
packages  timm and torchvision, or one sentence that says what to install
data      data sets and transforms; which images an update takes, on any number of workers
models    a ViT of timm, its checkpoint, its dropout
workers   several processes that train one model
trainer   one update and one evaluation, on rdrop_fairseq.loss
record    checkpoint, learning curve, result
run       the command: several devices, resume, train, report
"""
