"""Residue frames: rotations and positions from backbone atoms, atoms from frames, torsions, rotation vectors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.antibody.residues import IDEAL


def frames(n: Tensor, ca: Tensor, c: Tensor) -> Tensor:
    """The rotation of each residue, (..., 3, 3), columns x (CA to C), y (in the plane, towards N), z.

    Source: the Gram-Schmidt frames of Jumper et al., 2021, "AlphaFold", supplement, algorithm 21.

    Args:
        n: nitrogen, (..., 3), angstrom.
        ca: alpha carbon.
        c: carbonyl carbon.

    Example:
        >>> atom = {name: torch.tensor(IDEAL[name]) for name in ("N", "CA", "C")}
        >>> torch.allclose(frames(atom["N"], atom["CA"], atom["C"]), torch.eye(3), atol=1e-6)
        True
    """
    x = functional.normalize(c - ca, dim=-1)
    towards = n - ca
    y = functional.normalize(towards - (towards * x).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def placed(rotation: Tensor, position: Tensor, atom: str) -> Tensor:
    """One ideal atom of each residue, (..., 3), in the unit of `position` if that is angstrom.

    Args:
        rotation: (..., 3, 3).
        position: of CA, (..., 3), angstrom.
        atom: N, CA, C, O or CB.
    """
    return position + rotation @ position.new_tensor(IDEAL[atom])


def backbone(rotation: Tensor, position: Tensor) -> Tensor:
    """N, CA, C, O and CB of residues in a chain, ideal, (residues, 5, 3) angstrom.

    O of a residue lies in the plane of its own CA and C and the next residue's N, which is part of the peptide; the
    last keeps the ideal place.

    Args:
        rotation: (residues, 3, 3).
        position: (residues, 3), angstrom.

    Example:
        >>> atoms = backbone(torch.eye(3).expand(2, 3, 3), torch.tensor([[0.0, 0.0, 0.0], [3.8, 0.0, 0.0]]))
        >>> round(float((atoms[0, 3] - atoms[0, 2]).norm()), 2)
        1.23
    """
    atoms = torch.stack([placed(rotation, position, name) for name in IDEAL], 1)
    if len(atoms) > 1:
        carbon = atoms[:-1, 2]
        away = functional.normalize(atoms[:-1, 1] - carbon, dim=-1) + functional.normalize(
            atoms[1:, 0] - carbon, dim=-1
        )
        length = away.norm(dim=-1, keepdim=True)
        turned = carbon - 1.231 * away / length.clamp(min=1e-6)
        atoms[:-1, 3] = torch.where(length > 1e-3, turned, atoms[:-1, 3])
    return atoms


def torsion(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The dihedral angle about b-c, (...), radians.

    Example:
        >>> a, b, c, d = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 1.0, 0], [0, 1.0, 1.0]])
        >>> round(abs(float(torsion(a, b, c, d))), 3)
        1.571
    """
    axis = functional.normalize(c - b, dim=-1)
    first = (a - b) - ((a - b) * axis).sum(-1, keepdim=True) * axis
    second = (d - c) - ((d - c) * axis).sum(-1, keepdim=True) * axis
    return torch.atan2((torch.linalg.cross(axis, first) * second).sum(-1), (first * second).sum(-1))


def exponential(vector: Tensor) -> Tensor:
    """The rotation by a vector, (..., 3, 3): about its direction, by its length in radians.

    Example:
        >>> torch.allclose(exponential(torch.zeros(3)), torch.eye(3))
        True
    """
    angle = vector.square().sum(-1).clamp(min=1e-24).sqrt()[..., None, None]
    cross = _cross(vector)
    sine, other = angle.sin() / angle, 2 * (0.5 * angle).sin().square() / angle.square()
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + sine * cross + other * (cross @ cross)


def logarithm(rotation: Tensor) -> Tensor:
    """The vector of a rotation, (..., 3), of length 0 to pi: by way of its quaternion, so that half turns are no trap.

    Example:
        >>> vector = torch.tensor([0.3, -0.2, 3.0])
        >>> torch.allclose(logarithm(exponential(vector)), vector, atol=1e-5)
        True
    """
    quaternion = to_quaternion(rotation)
    scalar, part = quaternion[..., :1], quaternion[..., 1:]
    norm = part.square().sum(-1, keepdim=True).clamp(min=1e-24).sqrt()
    return 2 * torch.atan2(norm, scalar) * part / norm


def to_quaternion(rotation: Tensor) -> Tensor:
    """The unit quaternion (w, x, y, z) with w >= 0 of each rotation, (..., 4).

    Of four formulas each is divided by a different component; the largest of them is taken.

    Example:
        >>> to_quaternion(torch.eye(3)).tolist()
        [1.0, 0.0, 0.0, 0.0]
    """
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    one = torch.ones_like(xx)
    squares = torch.stack([one + xx + yy + zz, one + xx - yy - zz, one - xx + yy - zz, one - xx - yy + zz], -1)
    wx, wy, wz = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    rows = [[squares[..., 0], wx, wy, wz], [wx, squares[..., 1], xy, xz]]
    rows += [[wy, xy, squares[..., 2], yz], [wz, xz, yz, squares[..., 3]]]
    candidates = torch.stack([torch.stack(row, -1) for row in rows], -2)
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    chosen = functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(chosen[..., :1] < 0, -chosen, chosen)


def of_quaternion(quaternion: Tensor) -> Tensor:
    """The rotation of a quaternion (w, x, y, z) of any length but 0, (..., 3, 3).

    Example:
        >>> torch.equal(of_quaternion(torch.tensor([2.0, 0.0, 0.0, 0.0])), torch.eye(3))
        True
    """
    w, x, y, z = functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    rows += [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    rows += [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _cross(vector: Tensor) -> Tensor:
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
