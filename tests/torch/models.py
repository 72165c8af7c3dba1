"""Real architectures at tiny widths with random weights, and what they are called with; nothing is downloaded.

Those that tests/wirings.py has written by hand are built at the widths it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torchvision
import transformers
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from torchvision.models.resnet import BasicBlock, Bottleneck


@dataclass
class Example:
    """A model with what it is called with."""

    model: nn.Module
    args: tuple[Any, ...]
    named: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> Tensor:
        """The output that counts."""
        result = self.model(*self.args, **self.named)
        return getattr(result, "logits", result)


def picture(size: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, size, size)


def tokens() -> Tensor:
    return torch.randint(0, 50, (2, 9))


def mlp() -> Example:
    model = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 5))
    return Example(model, (torch.randn(3, 10),))


class LeNet(nn.Module):
    """Two convolutions and three linear layers, with three kinds of functions between them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, image: Tensor) -> Tensor:
        image = functional.max_pool2d(torch.relu(self.conv1(image)), 2)
        image = functional.max_pool2d(torch.relu(self.conv2(image)), 2)
        hidden = torch.tanh(self.fc1(image.flatten(1)))
        return self.fc3(functional.gelu(self.fc2(hidden)))


def lenet() -> Example:
    return Example(LeNet(), (picture(28, 1),))


def vgg11() -> Example:
    layers: list[nn.Module] = []
    below = 3
    for width, pools in zip([4, 8, 16, 16, 32, 32, 32, 32], [1, 1, 0, 1, 0, 1, 0, 1], strict=True):
        layers += [nn.Conv2d(below, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] if pools else []
        below = width
    layers += [nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(inplace=True), nn.Dropout()]
    layers += [nn.Linear(64, 64), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(64, 10)]
    return Example(nn.Sequential(*layers), (picture(32),))


def resnet(block: type[BasicBlock | Bottleneck], counts: list[int]) -> Example:
    below, layers = 4, [nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for k, count in enumerate(counts):
        width = 4 * 2**k
        for place in range(count):
            stride = 2 if k and place == 0 else 1
            downsample = None
            if stride > 1 or below != width * block.expansion:
                conv = nn.Conv2d(below, width * block.expansion, 1, stride, bias=False)
                downsample = nn.Sequential(conv, nn.BatchNorm2d(width * block.expansion))
            layers.append(block(below, width, stride, downsample))
            below = width * block.expansion
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(below, 10)]
    return Example(nn.Sequential(*layers), (picture(32),))


def mobilenet_v2() -> Example:
    table = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 40, 4, 2], [6, 48, 3, 1], [6, 56, 3, 2], [6, 64, 1, 1]]
    model = torchvision.models.MobileNetV2(10, 0.25, inverted_residual_setting=table, round_nearest=2)
    model.features[-1] = torchvision.ops.Conv2dNormActivation(16, 40, kernel_size=1)
    model.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(40, 10))
    return Example(model, (picture(32),))


def densenet() -> Example:
    model = torchvision.models.DenseNet(8, (3, 3, 2), 16, 4, num_classes=10)
    model.features.conv0 = nn.Conv2d(3, 16, 3, bias=False)
    return Example(model, (picture(32),))


class ShuffleNet(nn.Module):
    """Grouped convolutions and a channel shuffle, as in the first version."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gconv1 = nn.Conv2d(3, 15, 3), nn.Conv2d(15, 12, 1, groups=3)
        self.depthwise, self.gconv2 = nn.Conv2d(12, 12, 3, groups=12), nn.Conv2d(12, 8, 1, groups=4)
        self.fc = nn.Linear(8, 10)

    def forward(self, image: Tensor) -> Tensor:
        image = functional.relu(self.gconv1(functional.relu(self.stem(image))))
        n, _, height, width = image.shape
        image = image.view(n, 3, 4, height, width).transpose(1, 2).reshape(n, 12, height, width)
        return self.fc(functional.relu(self.gconv2(self.depthwise(image))).mean((2, 3)))


def shufflenet() -> Example:
    return Example(ShuffleNet(), (picture(12),))


def shufflenet_v2() -> Example:
    return Example(torchvision.models.ShuffleNetV2([2, 2, 2], [8, 16, 24, 32, 40], num_classes=10), (picture(64),))


def gpt2() -> Example:
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=48, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0
    )
    return Example(transformers.GPT2LMHeadModel(config), (tokens(),), {"use_cache": True})


def llama() -> Example:
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return Example(transformers.LlamaForCausalLM(config), (tokens(),))


def bert() -> Example:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    return Example(model, (), {"input_ids": tokens(), "attention_mask": torch.ones(2, 9, dtype=torch.long)})


def vit() -> Example:
    return Example(torchvision.models.VisionTransformer(16, 4, 3, 3, 24, 96, num_classes=10), (picture(16),))


def swin() -> Example:
    model = torchvision.models.SwinTransformer([2, 2], 16, [2, 2], [2, 4], [4, 4], num_classes=10)
    return Example(model, (picture(32),))


class UNet(nn.Module):
    """Skips by concatenation, a transposed convolution, channels that become pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.up, self.joint = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.Conv2d(12, 6, 3, padding=1)
        self.spread, self.last = nn.Conv2d(6, 12, 1), nn.Conv2d(3, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        outer = torch.relu(self.down1(image))
        inner = torch.relu(self.down2(functional.avg_pool2d(outer, 2)))
        joint = torch.relu(self.joint(torch.cat([self.up(inner), outer], 1)))
        return self.last(torch.relu(functional.pixel_shuffle(self.spread(joint), 2)))


def unet() -> Example:
    return Example(UNet(), (picture(8),))


class Recurrent(nn.Module):
    """A recurrent layer between two linear ones, of which the last moment is read."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.embed, self.rnn, self.fc = nn.Linear(7, 16), kind(16, 24, 2, batch_first=True), nn.Linear(24, 5)

    def forward(self, series: Tensor) -> Tensor:
        return self.fc(self.rnn(self.embed(series))[0][:, -1])


def recurrent(kind: type[nn.LSTM | nn.GRU]) -> Example:
    return Example(Recurrent(kind), (torch.randn(2, 6, 7),))


def pruned() -> Example:
    example = lenet()
    for layer in (example.model.conv2, example.model.fc1, example.model.fc2):
        prune.random_unstructured(layer, "weight", 0.5)
    return example


class Masked(nn.Module):
    """A parametrization that multiplies with a mask."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.rand(shape) < 0.5).float())

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def parametrized() -> Example:
    example = lenet()
    model = example.model
    nn.utils.parametrize.register_parametrization(model.conv2, "weight", Masked(model.conv2.weight.shape))
    parametrizations.weight_norm(model.fc1)
    parametrizations.spectral_norm(model.fc2)
    return example


class LoRA(nn.Module):
    """A linear layer with a low-rank addition beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 12), nn.Linear(12, 4)
        self.lora_A, self.lora_B = nn.Linear(10, 3, bias=False), nn.Linear(3, 12, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x) + 0.5 * self.lora_B(self.lora_A(x))))


def lora() -> Example:
    return Example(LoRA(), (torch.randn(3, 10),))


class Shared(nn.Module):
    """A square layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(6, 32), nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.shared(torch.relu(self.shared(torch.relu(self.first(x)))))))


def shared_linear() -> Example:
    return Example(Shared(), (torch.randn(3, 6),))


class Bare(nn.Module):
    """Weights that belong to no layer of torch, multiplied by einsum and the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Parameter(torch.randn(6, 9)), nn.Parameter(torch.randn(4, 9))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bth,oh->bto", torch.tanh(x @ self.inward), self.outward)


def bare() -> Example:
    return Example(Bare(), (torch.randn(3, 5, 6),))


def encoder() -> Example:
    layer = nn.TransformerEncoderLayer(24, 3, 40, batch_first=True)
    model = nn.Sequential(
        nn.Linear(7, 24), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(24, 5)
    )
    return Example(model, (torch.randn(2, 6, 7),))


MODELS: dict[str, Callable[[], Example]] = {
    "mlp": mlp,
    "lenet": lenet,
    "vgg11": vgg11,
    "resnet18": partial(resnet, BasicBlock, [2, 2, 2, 2]),
    "resnet50": partial(resnet, Bottleneck, [3, 4, 6, 3]),
    "mobilenet_v2": mobilenet_v2,
    "densenet": densenet,
    "shufflenet": shufflenet,
    "shufflenet_v2": shufflenet_v2,
    "gpt2": gpt2,
    "llama": llama,
    "bert": bert,
    "vit": vit,
    "swin": swin,
    "unet": unet,
    "lstm": partial(recurrent, nn.LSTM),
    "gru": partial(recurrent, nn.GRU),
    "pruned": pruned,
    "parametrized": parametrized,
    "lora": lora,
    "shared_linear": shared_linear,
    "bare": bare,
    "encoder": encoder,
}
