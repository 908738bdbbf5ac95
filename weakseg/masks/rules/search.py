"""Parameters of a rule that are chosen on validation masks, which are counted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Annotated, Any, Self

import numpy as np
from pydantic import (
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from weakseg.errors import nearest
from weakseg.masks.rules.base import Evidence, FittedRule, Pairs, Rule, segment

OF_SEARCH = frozenset({"search", "max_masks"})


class SearchedRule(Rule):
    """A rule whose parameters may be chosen on validation masks instead of beforehand."""

    search: dict[str, list[Any]] | None = Field(
        None,
        description="parameter → values; every combination is tried on validation masks, which "
        "are counted, and that of the best mean Dice is taken",
    )
    max_masks: int | None = Field(
        None, ge=1, description="of a search: use only so many validation masks"
    )

    def fit(self, evidence: Evidence) -> FittedRule:
        if self.search is not None:
            return _searched(self, evidence)
        return self.fit_as_set(evidence)

    def fit_as_set(self, evidence: Evidence) -> FittedRule:
        """`fit` for the parameters as they are set, without a search."""
        return super().fit(evidence)

    @classmethod
    def parameters(cls) -> list[str]:
        """What can be searched."""
        return [n for n in cls.model_fields if n not in (*OF_SEARCH, "rule", "masks_seen")]

    @field_validator("search")
    @classmethod
    def _values_are_in_range(cls, search: dict[str, list[Any]] | None) -> Any:
        if search is not None and not search:
            raise ValueError(f"name a parameter ({', '.join(cls.parameters())}) and its values")
        return search and {name: cls._in_range(name, search[name]) for name in search}

    @classmethod
    def _in_range(cls, name: str, values: list[Any]) -> list[Any]:
        if name not in cls.parameters():
            close = nearest(name, cls.parameters())
            choice = (
                f"did you mean {close!r}?" if close else f"choose {', '.join(cls.parameters())}"
            )
            raise ValueError(f"{name}: the rule has no such parameter; {choice}")
        field = cls.model_fields[name]
        adapter = TypeAdapter[Any](
            Annotated[field.annotation, field],  # type: ignore[arg-type]
            config=ConfigDict(allow_inf_nan=False),
        )
        valid = []
        for value in values:
            try:
                valid.append(adapter.validate_python(None if isinstance(value, bool) else value))
            except ValidationError as e:
                said = e.errors()[0]["msg"]
                raise ValueError(f"{name}: {said[0].lower()}{said[1:]}, not {value!r}") from None
        if not valid or len(set(valid)) < len(valid):
            raise ValueError(f"{name}: name one value or more, each once")
        return valid

    @model_validator(mode="after")
    def _something_is_possible(self) -> Self:
        if self.search is None and self.max_masks is not None:
            raise ValueError("max_masks: for a search only")
        if self.search is not None and not self.candidates():
            raise ValueError(f"search: its values exclude each other; {self._refused()}")
        return self

    def _refused(self) -> str:
        """Why the first combination cannot be."""
        first = {name: values[0] for name, values in (self.search or {}).items()}
        try:
            type(self).model_validate(self.model_dump(exclude=set(OF_SEARCH)) | first)
        except ValidationError as e:
            return e.errors()[0]["msg"].removeprefix("Value error, ")
        raise AssertionError("a combination that can be")

    def candidates(self) -> list[tuple[dict[str, Any], Self]]:
        """Every combination of the values, the last parameter's changing first.

        Returns
        -------
        list of (dict, rule)
            What is set, and the rule with it and without a search. Combinations that exclude each
            other, such as a low end above the high one, are left out.
        """
        names, base = list(self.search or {}), self.model_dump(exclude=set(OF_SEARCH))
        valid = []
        for values in product(*(self.search or {}).values()):
            chosen = dict(zip(names, values, strict=True))
            with suppress(ValidationError):
                valid.append((chosen, type(self).model_validate(base | chosen)))
        return valid

    @model_serializer(mode="wrap")
    def _says_nothing_of_no_search(self, handler: Any) -> dict[str, Any]:
        # The experiment as a run keeps it is read by people.
        settings: dict[str, Any] = handler(self)
        searched = {k: settings.pop(k) for k in list(settings) if k in OF_SEARCH}
        return settings if self.search is None else settings | searched


def low_below_high(rule: Any) -> Any:
    """Two shares of the heat must be in order; a search leaves out those that are not."""
    if getattr(rule, "search", None) is None and rule.low >= rule.high:
        raise ValueError("low must be below high")
    return rule


def chosen_masks(pairs: Pairs, at_most: int | None, seed: int) -> set[int] | None:
    """Which of the pairs are looked at; None for all."""
    if at_most is None:
        return None
    every = sum(1 for _ in pairs())
    return set(np.random.default_rng(seed).permutation(every)[:at_most].tolist())


def no_lesion(split: str, masks: int) -> LookupError:
    """Why nothing can be chosen on the masks of a split; ``masks``: how many were looked at."""
    if not masks:
        return LookupError(f"no lesion image of the {split} split has a mask")
    which = "the mask" if masks == 1 else f"all {masks} masks"
    return LookupError(f"{which} of the {split} split that it looked at marked nothing")


def _searched(rule: SearchedRule, evidence: Evidence) -> FittedRule:
    """The combination of the best mean Dice on validation lesions; of equal ones the first."""
    from weakseg.scores.overlap import dice

    if evidence.val_images is None:
        raise ValueError("a search needs the validation images")
    tried = rule.candidates()
    blind = Evidence(train=tuple, val=tuple, test=tuple)
    fitted = [r.fit(blind) for _, r in tried]
    chosen = chosen_masks(evidence.val, rule.max_masks, evidence.seed)
    total, lesions = np.zeros(len(tried)), 0
    seen: list[int] = []
    for i, (heat, image, truth) in enumerate(evidence.val_images()):
        if chosen is not None and i not in chosen:
            continue
        seen.append(i)
        if np.any(truth):
            lesions += 1
            total += [dice(segment(f, heat, image), truth) for f in fitted]
    if not lesions:
        raise no_lesion("validation", len(seen))
    mean = total / lesions
    best = int(mean.argmax())
    words = ", ".join(
        f"{name} {value if isinstance(value, str) else f'{value:g}'}"
        for name, value in tried[best][0].items()
    )
    return replace(
        fitted[best],
        chosen_on=f"masks of the validation split: {words}, of {len(tried)} that were tried",
        masks_seen=fitted[best].masks_seen + len(seen),
        validation=tuple(seen),
        search={
            "configured": rule.model_dump(mode="json"),
            "candidates": [
                c | {"dice": round(float(d), 6)} for (c, _), d in zip(tried, mean, strict=True)
            ],
        },
    )
