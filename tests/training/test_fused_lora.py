"""The fused LoRA layer against PEFT's own: outputs, gradients, and which layers it leaves alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import Linear
from tiny_training import LORA, adapter_of, largest_difference

from nescio.training.fused_lora import _LoraLinear, fused
from nescio.training.lora import with_lora

Make = Callable[..., Any]
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
PLAIN = replace(LORA, dropout=0.0)


def adapted(make_model: Make, style: str = "llama", lora: Any = PLAIN) -> Any:
    torch.manual_seed(0)
    model = with_lora(make_model(style), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero in a fresh adapter, and so would be all gradients of A
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def replaced(model: Any) -> int:
    return sum(isinstance(module, Linear) and "forward" in vars(module) for module in model.modules())


def gradients(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logits = model(input_ids=IDS).logits
    (logits.float().log_softmax(-1)[0, :, 3].sum()).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return logits.detach(), found


@pytest.mark.parametrize("style", ["llama", "qwen2"])  # qwen2's layers have a bias
def test_outputs_and_gradients_are_pefts(make_model: Make, style: str) -> None:
    model = adapted(make_model, style)
    logits, expected = gradients(model)
    with fused(model):
        assert replaced(model) == 14, "seven layers in each of two blocks"
        own, found = gradients(model)
    torch.testing.assert_close(own, logits, rtol=1e-4, atol=1e-5)
    assert found.keys() == adapter_of(model).keys()
    assert largest_difference(found, expected) < 1e-4
    assert replaced(model) == 0


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    sizes = ((3, 4), (3, 4), (5, 4), (5,), (2, 4), (5, 2))
    x, dropped, weight, bias, a, b = (torch.randn(*size, dtype=torch.double) for size in sizes)
    for each in (x, dropped, a, b):
        each.requires_grad_()
    assert torch.autograd.gradcheck(_LoraLinear.apply, (x, None, weight, bias, a, b, 1.7))
    assert torch.autograd.gradcheck(_LoraLinear.apply, (x, dropped, weight, bias, a, b, 1.7))


def test_in_bf16_outputs_and_gradients_are_near_pefts(make_model: Make) -> None:
    model = adapted(make_model)
    with torch.autocast("cpu", torch.bfloat16):
        logits, expected = gradients(model)
        with fused(model):
            own, found = gradients(model)
    assert float((own - logits).abs().mean()) < 0.05 * float(logits.abs().mean())
    assert {each.dtype for each in found.values()} == {torch.float32}
    for name, wanted in expected.items():
        assert torch.cosine_similarity(found[name].flatten(), wanted.flatten(), 0) > 0.99, name


def test_what_dropout_leaves_is_what_peft_reads(make_model: Make) -> None:
    model = adapted(make_model, lora=replace(LORA, dropout=0.3))
    torch.manual_seed(7)
    logits, expected = gradients(model)
    with fused(model):
        torch.manual_seed(7)
        own, found = gradients(model)
    torch.testing.assert_close(own, logits, rtol=1e-4, atol=1e-5)
    assert largest_difference(found, expected) < 1e-4


def test_an_output_may_be_changed_in_place(make_model: Make) -> None:
    model = adapted(make_model)  # OLMo clamps its queries
    layer = next(module for module in model.modules() if type(module) is Linear)
    with fused(model):
        layer(torch.randn(1, 3, layer.in_features)).clamp_(max=0.1).sum().backward()
    assert layer.lora_B["default"].weight.grad.abs().sum() > 0


def test_layers_of_another_kind_are_left_to_peft(make_model: Make) -> None:
    model = adapted(make_model, "gpt2")  # its layers are Conv1D
    with fused(model):
        assert replaced(model) == 0


def test_a_disabled_adapter_is_off(make_model: Make) -> None:
    model, plain = adapted(make_model).eval(), make_model("llama")
    with torch.no_grad(), fused(model), model.disable_adapter():
        assert torch.equal(model(input_ids=IDS).logits, plain(input_ids=IDS).logits)
