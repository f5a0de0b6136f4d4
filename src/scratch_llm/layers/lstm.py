"""Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    i, f, g, o = W x_t + U h_{t-1} + b        c_t = sigma(f) c_{t-1} + sigma(i) tanh(g)        h_t = sigma(o) tanh(c_t)

The four gates are one matrix W for the input and one, U, for the state: W x is one product for all tokens of a text, and
only U h has to wait for the token before.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scratch_llm.layers.state_cache import read_state, write_state
from scratch_llm.layers.token_shift import Padding


def lstm_cell(gates_BG: Tensor, cell_BH: Tensor) -> tuple[Tensor, Tensor]:
    """One step from the gates before their non-linearities, i, f, g, o side by side (G = 4 H): new hidden state and cell."""
    i, f, g, o = gates_BG.chunk(4, dim=-1)
    cell_BH = torch.sigmoid(f) * cell_BH + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell_BH), cell_BH


class LSTMLayer(nn.Module):
    """One layer over a whole text.  H is the width of hidden state and cell."""

    def __init__(self, d_input: int, d_hidden: int):
        super().__init__()
        self.input = nn.Linear(d_input, 4 * d_hidden)
        self.recurrent = nn.Linear(d_hidden, 4 * d_hidden, bias=False)

    def forward(self, x_BTD: Tensor, state: Mapping[str, Tensor], padding: Padding | None) -> Tensor:
        """(B, T, D) -> (B, T, H).  ``state``: ``hidden`` and ``cell``, (B, H) each; overwritten."""
        hidden_BH, cell_BH = read_state(state["hidden"]), read_state(state["cell"])
        recurrence = self.clear_recurrence if padding is not None or x_BTD.shape[1] == 1 else self.recurrence
        y_BTH, hidden_BH, cell_BH = recurrence(x_BTD, hidden_BH, cell_BH, padding)
        write_state(state["hidden"], hidden_BH)
        write_state(state["cell"], cell_BH)
        return y_BTH

    def clear_recurrence(
        self, x_BTD: Tensor, hidden_BH: Tensor, cell_BH: Tensor, padding: Padding | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Token by token: hidden states (B, T, H), and the last hidden state and cell.  Padding leaves both as they are."""
        input_gates_BTG = self.input(x_BTD)
        hidden_BH, cell_BH = hidden_BH.to(input_gates_BTG.dtype), cell_BH.to(input_gates_BTG.dtype)
        outputs = []
        for t in range(x_BTD.shape[1]):
            gates_BG = input_gates_BTG[:, t] + self.recurrent(hidden_BH)
            new_hidden_BH, new_cell_BH = lstm_cell(gates_BG, cell_BH)
            if padding is not None:
                real_B1 = padding.real_BT[:, t, None]
                new_hidden_BH = torch.where(real_B1, new_hidden_BH, hidden_BH)
                new_cell_BH = torch.where(real_B1, new_cell_BH, cell_BH)
            hidden_BH, cell_BH = new_hidden_BH, new_cell_BH
            outputs.append(hidden_BH)
        return torch.stack(outputs, dim=1), hidden_BH, cell_BH

    def recurrence(
        self, x_BTD: Tensor, hidden_BH: Tensor, cell_BH: Tensor, padding: None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``clear_recurrence`` by the library's kernel, without padding: 5 times as fast on a CPU, forward and backward.

        It has no automatic mixed precision, and a second bias that we leave at 0.
        """
        kind = x_BTD.device.type
        autocast = kind != "meta" and torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else x_BTD.dtype
        weights = [self.input.weight, self.recurrent.weight, self.input.bias, torch.zeros_like(self.input.bias)]
        states = [state[None].to(dtype) for state in (hidden_BH, cell_BH)]
        y_BTH, hidden_1BH, cell_1BH = torch.lstm(
            x_BTD.to(dtype), states, [weight.to(dtype) for weight in weights],
            has_biases=True, num_layers=1, dropout=0.0, train=torch.is_grad_enabled(), bidirectional=False,
            batch_first=True,
        )  # fmt: skip
        return y_BTH, hidden_1BH[0], cell_1BH[0]

    def packed(self, n_rows: int) -> nn.Module:
        """For decoding: packed matrices step by step; the library's kernel, for prompts, keeps the plain ones."""
        from scratch_llm.generation.packing import pack_children

        twin = pack_children(self, n_rows)
        if not hasattr(twin.input, "weight"):  # int8 layers restore theirs
            object.__setattr__(twin, "recurrence", self.recurrence)
        return twin
