"""Text for people in the two languages of a space."""

from __future__ import annotations

from dataclasses import dataclass

from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields, check_text


@dataclass(frozen=True, slots=True)
class LocalizedText:
    """A text in English and Chinese; one of the two may be empty.

    Attributes:
        en: English, up to 4,000 characters.
        zh: Chinese, up to 4,000 characters.

    Raises:
        DocumentError: Both are empty, or one isn't fit to be shown (see
            `luoshu.contracts.fields.check_text`).
    """

    en: str
    zh: str

    def __post_init__(self) -> None:
        if not self.en and not self.zh:
            raise DocumentError("a text needs English or Chinese")
        for text in (self.en, self.zh):
            check_text(text, max_length=4000, multiline=True, empty=True)

    def in_language(self, language: str) -> str:
        """The text in ``"en"`` or ``"zh"``, or in the other where that is empty."""
        return (self.zh or self.en) if language == "zh" else (self.en or self.zh)

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"en": self.en, "zh": self.zh}

    @classmethod
    def from_payload(cls, value: JsonValue) -> LocalizedText:
        """Reads the JSON form.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "localized text", {"en", "zh"})
        return cls(fields.string("en"), fields.string("zh"))
