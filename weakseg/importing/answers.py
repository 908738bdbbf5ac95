"""What files alone do not tell, and who answers: command line, terminal, or the default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weakseg.errors import ConfigError, did_you_mean
from weakseg.importing.typed import meant


@dataclass(frozen=True)
class Question:
    """Something that cannot be told from the files.

    Attributes
    ----------
    key : str
        A word, for ``--answer KEY=VALUE``.
    text : str
        With a question mark.
    default : str
        What is taken where nobody answers.
    choices : sequence of str
        What else may be answered; blank where anything may.
    why : str
        Why the default is likely, or what else it could be.
    below : Path, optional
        Where the choices are files: the folder that they lie in.
    """

    key: str
    text: str
    default: str
    choices: Sequence[str] = ()
    why: str = ""
    below: Path | None = None

    def choice(self, answer: str) -> str | None:
        """The choice that an answer means, see `meant`; None of what is none."""
        return meant(answer, self.choices, self.below) if self.choices else answer


@dataclass
class Answers:
    """Answers to questions, and a record of those that nobody answered.

    Attributes
    ----------
    given : mapping of str to str
        Of the command line.
    prompt : callable, optional
        Asks a person; None where no one sits at a terminal.
    assumed : list of Question
        Those for which the default was taken.
    asked : dict
        Key → what was answered, or assumed.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    prompt: Callable[[Question], str] | None = None
    assumed: list[Question] = field(default_factory=list)
    asked: dict[str, str] = field(default_factory=dict)

    def ask(self, question: Question) -> str:
        """The answer: as given, as a person says, or the default, which is then told.

        Raises
        ------
        ConfigError
            For an answer that is none of the choices.
        """
        key = question.key
        if key in self.given:
            answer = self.given[key]
            if (choice := question.choice(answer)) is None:
                raise ConfigError(
                    f"The answer to {question.text!r} is none of those that there are.",
                    where=f"--answer {key}={answer}",
                    fix=did_you_mean(answer, question.choices),
                )
            answer = choice
        elif self.prompt is not None:
            answer = self.prompt(question)
        else:
            answer = question.default
            self.assumed.append(question)
        self.asked[key] = answer
        return answer

    def refuse_unasked(self) -> None:
        """Refuse answers to what was never asked.

        Raises
        ------
        ConfigError
            With the questions that there were.
        """
        for key in self.given:
            if key not in self.asked:
                where = f"--answer {key}={self.given[key]}"
                if not self.asked:
                    raise ConfigError(
                        "These files leave no question.", where=where, fix="leave the answer out"
                    )
                raise ConfigError(
                    f"Nothing was asked to which {key!r} is the answer.",
                    where=where,
                    expected=f"answers to {', '.join(self.asked)}",
                    fix=did_you_mean(key, self.asked),
                )
