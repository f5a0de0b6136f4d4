"""All-reduce by hand: every process gets the sum of a tensor that each has of its own.

Ring (Patarasuk & Yuan, "Bandwidth optimal all-reduce", 2009): the tensor is cut into as many pieces as there are processes.
In n - 1 rounds each passes one piece to the right and adds what comes from the left, after which it has the whole sum of one
piece (reduce-scatter); in n - 1 further rounds the sums go round (all-gather).  Each sends 2 (n - 1) / n of the tensor,
hardly more for a thousand processes than for two.  The simple way, all to one and back, makes that one receive n - 1 tensors.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def ring_all_reduce(tensor: Tensor) -> int:
    """Replace ``tensor`` by its sum over all processes; returns the bytes that this process has sent."""
    rank, size, sent = dist.get_rank(), dist.get_world_size(), 0
    padded = torch.nn.functional.pad(tensor.detach().flatten(), (0, -tensor.numel() % size))
    pieces = list(padded.chunk(size))
    right, left = (rank + 1) % size, (rank - 1) % size
    for turn in range(2 * (size - 1)):
        incoming = torch.empty_like(pieces[0])
        # Whatever arrived last turn goes on to the right: in the first half a partial sum, in the second a whole one.
        request = dist.isend(pieces[(rank - turn) % size], right)
        dist.recv(incoming, left)
        request.wait()
        sent += incoming.nbytes
        if turn < size - 1:
            pieces[(rank - turn - 1) % size] += incoming
        else:
            pieces[(rank - turn - 1) % size].copy_(incoming)
    tensor.detach().copy_(padded[: tensor.numel()].view_as(tensor))
    return sent


def central_all_reduce(tensor: Tensor) -> int:
    """The same by way of process 0, which adds and sends back: its connection carries everything."""
    if dist.get_rank() > 0:
        dist.send(tensor.detach(), 0)
        dist.recv(tensor.detach(), 0)
        return tensor.nbytes
    incoming = torch.empty_like(tensor)
    for other in range(1, dist.get_world_size()):
        dist.recv(incoming, other)
        tensor.detach().add_(incoming)
    for other in range(1, dist.get_world_size()):
        dist.send(tensor.detach(), other)
    return tensor.nbytes * (dist.get_world_size() - 1)
