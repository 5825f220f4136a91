"""The line to write instead: which call or layer of the second model an alternative is an argument of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lockstep.exchange.models.records import Call, Layer, Model
from lockstep.proof.pair import activations, alternatives, client, laboratory, rewrites
from lockstep.proof.pair.party import Parties, Party
from lockstep.store.documents.difference import Remedy


def of_part(
    parties: Parties, part: laboratory.Part, alternative: alternatives.Alternative, places: Sequence[Any]
) -> tuple[Remedy, ...]:
    """The line of the second model's layer, or function, to write instead; none where that is not sure."""
    model = parties[1].model
    if part.side:
        flattener = part.flattener if alternative.meaning == "flatten" else None
        found = rewritten(parties[1], part.call, alternative.argument, alternative.after, alternative, flattener)
        return (found,) if found else ()
    # The first model is the reference: what it has is written into the second one's call, which may take it otherwise.
    for call in places[1].calls:
        known = {**call.arguments, **(layer.arguments if (layer := layer_of(model, call)) else {})}
        for name, before in known.items():
            if alternatives.MEANING.get(name, name) == alternative.meaning:
                value = alternatives.like(alternative.before, before, alternative.argument, name)
                found = rewritten(parties[1], call, name, value, alternative)
                return (found,) if found else ()
    return ()


def rewritten(
    party: Party, call: Call, argument: str, value: Any, alternative: alternatives.Alternative,
    flattener: Call | None = None,
) -> Remedy | None:  # fmt: skip
    """The remedy of a call of the second model's; the edit is kept for the closing proof."""
    edit = _edit(party.model, call, argument, value, alternative, flattener)
    found = edit.remedy() if edit else None
    if edit is not None and found is not None:
        party.edits.append(edit)
    return found


def _edit(
    model: Model, call: Call, argument: str, value: Any, alternative: alternatives.Alternative, flattener: Call | None
) -> rewrites.Edit | None:
    if alternative.meaning == "flatten":
        call = flattener or call
    callee, names, where = call.function.rpartition(".")[2], call.names, call.where
    layer = layer_of(model, call)
    if layer is not None:
        callee, names, where = layer.name, tuple(layer.arguments), layer.where
        argument = next((key for key in layer.arguments if _is_same_argument(key, argument)), argument)
    place, change = (where.file, where.line, callee), alternative.change
    if alternative.meaning == "flatten":
        return rewrites.flattened(model.framework, *place, alternative.after) if flattener else None
    if alternative.meaning == "pads" or (alternative.meaning == "counted" and change.pads):
        return rewrites.padded(model.framework, *place, change.pads, call.kind, layer is not None, names)
    if alternative.meaning == "crop":
        return rewrites.cropped(model.framework, *place, change.pads, call, names)
    if alternative.meaning == "function":
        said = activations.code(alternative.after[0], _side_of(model))
        return activations.edit(*place, said, _side_of(model), layer is not None) if said else None
    if alternative.meaning == "order":
        return None
    if alternative.meaning == "mask" and (maker := _masking(model)) is not None:
        return rewrites.argument(maker.where.file, maker.where.line, maker.name, "mask_zero", value)
    if layer is not None and argument not in layer.arguments:
        if alternative.meaning == "training":
            return rewrites.without(call.where.file, call.where.line, argument)
        return rewrites.keyword(call.where.file, call.where.line, argument, value)
    return rewrites.argument(*place, argument, value, names)


def _masking(model: Model) -> Layer | None:
    """The layer of Keras's that makes a mask of what is 0."""
    return next((layer for layer in model.layers if layer.arguments.get("mask_zero") is True), None)


def _side_of(model: Model) -> str:
    return model.framework if model.framework in client.BACKEND_OF else "jax"


def layer_of(model: Model, call: Call) -> Layer | None:
    return next((layer for layer in model.layers if layer.path == call.path), None)


def _is_same_argument(one: str, other: str) -> bool:
    meaning = alternatives.MEANING
    return one == other or (one in meaning and meaning.get(one) == meaning.get(other))
