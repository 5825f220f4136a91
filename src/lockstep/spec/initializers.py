"""How a kernel or a bias starts: the distributions that starting weights are drawn from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lockstep.spec.records import Positive, kind, kinds_of, record, short_form


@record
class HeNormal:
    """Normal, std √(2/fan_in), not truncated (He et al. 2015, eq. 10)."""

    kind: Literal["he_normal"] = kind("he_normal")


@record
class HeUniform:
    """Uniform in ±√(6/fan_in) (He et al. 2015)."""

    kind: Literal["he_uniform"] = kind("he_uniform")


@record
class GlorotNormal:
    """Normal, std √(2/(fan_in+fan_out)), not truncated (Glorot & Bengio 2010)."""

    kind: Literal["glorot_normal"] = kind("glorot_normal")


@record
class GlorotUniform:
    """Uniform in ±√(6/(fan_in+fan_out)) (Glorot & Bengio 2010, eq. 16)."""

    kind: Literal["glorot_uniform"] = kind("glorot_uniform")


@record
class LecunNormal:
    """Normal, std √(1/fan_in), not truncated (LeCun et al. 1998)."""

    kind: Literal["lecun_normal"] = kind("lecun_normal")


@record
class LecunUniform:
    """Uniform in ±√(3/fan_in) (LeCun et al. 1998)."""

    kind: Literal["lecun_uniform"] = kind("lecun_uniform")


@record
class Normal:
    """Normal with mean 0 and the given standard deviation."""

    std: Positive = 0.05
    kind: Literal["normal"] = kind("normal")


@record
class Uniform:
    """Uniform in ±limit."""

    limit: Positive = 0.05
    kind: Literal["uniform"] = kind("uniform")


@record
class TorchDefault:
    """What PyTorch's Linear and Conv2d do: uniform in ±1/√fan_in, kernels and biases alike."""

    kind: Literal["torch_default"] = kind("torch_default")


@record
class FlaxDefault:
    """What Flax's Dense and Conv do with kernels: LeCun normal, cut at two standard deviations of the uncut one.

    The uncut one is wider by 1/0.8796, so that the std of what is left is √(1/fan_in).
    """

    kind: Literal["flax_default"] = kind("flax_default")


@record
class Zeros:
    """All zero: the default of biases."""

    kind: Literal["zeros"] = kind("zeros")


_Initializer = (
    HeNormal
    | HeUniform
    | GlorotNormal
    | GlorotUniform
    | LecunNormal
    | LecunUniform
    | Normal
    | Uniform
    | TorchDefault
    | FlaxDefault
    | Zeros
)
INITIALIZERS = kinds_of(_Initializer)
Initializer = Annotated[_Initializer, Field(discriminator="kind"), short_form(_Initializer)]
