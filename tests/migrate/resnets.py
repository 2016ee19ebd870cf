"""The same small 3-D ResNet in MindSpore and in PyTorch, and one training step of each."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import torch
from mindspore import nn, ops

import bn3d

LEARNING_RATE = 0.05


def conv(inputs, outputs, kernel=3, stride=1):
    padding = kernel // 2
    return nn.Conv3d(
        inputs, outputs, kernel, stride=stride, pad_mode="pad", padding=padding, has_bias=False
    )


class Block(nn.Cell):
    def __init__(self, inputs, outputs, stride, norm):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, stride=stride), norm(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs), norm(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.SequentialCell(conv(inputs, outputs, 1, stride), norm(outputs))

    def construct(self, x):
        y = ops.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return ops.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Cell):
    def __init__(self, norm=bn3d.BatchNorm3d):
        super().__init__()
        self.conv1, self.bn1 = conv(1, 4), norm(4)
        self.layer1 = nn.SequentialCell(Block(4, 4, 1, norm), Block(4, 4, 1, norm))
        self.layer2 = nn.SequentialCell(Block(4, 8, 2, norm), Block(8, 8, 1, norm))
        self.fc = nn.Dense(8, 3)

    def construct(self, x):
        x = ops.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3, 4)))


def build():
    """For `bn3d convert --net`."""
    return ResNet()


def build_small():
    return nn.SequentialCell(conv(1, 2), bn3d.BatchNorm3d(2))


def torch_small():
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 2, 3, padding=1, bias=False), torch.nn.BatchNorm3d(2)
    )


class TorchBlock(torch.nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm3d(outputs)
        self.conv2 = torch.nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm3d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = torch.nn.Sequential(
                torch.nn.Conv3d(inputs, outputs, 1, stride, bias=False),
                torch.nn.BatchNorm3d(outputs),
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchResNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv3d(1, 4, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm3d(4)
        self.layer1 = torch.nn.Sequential(TorchBlock(4, 4, 1), TorchBlock(4, 4, 1))
        self.layer2 = torch.nn.Sequential(TorchBlock(4, 8, 2), TorchBlock(8, 8, 1))
        self.fc = torch.nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3, 4)))


def torch_resnet(seed=0):
    """With batch norm parameters and statistics that are not just 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = TorchResNet()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
                module.running_mean.uniform_(-0.5, 0.5, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return net


def volumes(seed=0, shape=(2, 1, 6, 8, 10)):
    return np.random.default_rng(seed).normal(0.3, 1, shape).astype(np.float32)


def mindspore_step(net):
    """A function x -> (output, gradient of x, gradients by parameter name), which trains."""
    optimizer = nn.Momentum(net.trainable_params(), LEARNING_RATE, momentum=0.9)

    def loss_of(x):
        y = net(x)
        return ops.sin(y).mean(), y

    gradients_of = ms.value_and_grad(loss_of, 0, optimizer.parameters, has_aux=True)

    def step(x):
        (_, y), (dx, gradients) = gradients_of(ms.Tensor(x))
        by_name = {
            p.name: g.asnumpy().copy() for p, g in zip(optimizer.parameters, gradients, strict=True)
        }
        optimizer(gradients)
        return y.asnumpy(), dx.asnumpy(), by_name

    return step


def torch_step(net):
    """The same with PyTorch."""
    optimizer = torch.optim.SGD(
        [p for p in net.parameters() if p.requires_grad], LEARNING_RATE, momentum=0.9
    )

    def step(x):
        x = torch.tensor(x, requires_grad=True)
        optimizer.zero_grad()
        y = net(x)
        torch.sin(y).mean().backward()
        by_name = {
            name: p.grad.numpy().copy() for name, p in net.named_parameters() if p.requires_grad
        }
        optimizer.step()
        return y.detach().numpy(), x.grad.numpy(), by_name

    return step


def assert_close(got, wanted, tolerance, floor=1.0):
    """Within `tolerance` of the largest value, at least of `floor`: gradients of a mean are
    small and need 0.
    """
    wanted = np.asarray(wanted)
    scale = max(np.abs(wanted).max(), floor)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * scale)
