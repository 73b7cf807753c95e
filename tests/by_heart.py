"""A tiny model that is trained until it knows dialogs by heart."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast


def learn_by_heart(model: Any, tokenizer: PreTrainedTokenizerFast, dialogs: Sequence[Any]) -> None:
    """Train a model on dialogs, lists of messages, until it knows them."""
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in dialogs]
    rows = tokenizer(texts, return_tensors="pt", padding=True)
    labels = rows.input_ids.masked_fill(rows.attention_mask == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(250):
        optimizer.zero_grad()
        loss = model(**rows, labels=labels).loss
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
