"""An operator's catalog with as many really signed entries as asked for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from luoshu.connector.catalog.projection import CatalogProjection
from luoshu.connector.catalog.service import CatalogService
from luoshu.connector.clock import SystemClock
from luoshu.connector.ledger import Ledger
from luoshu.connector.membership.directory import KnownCredential, KnownStatus, MemberDirectory
from luoshu.connector.membership.pki import create_authority
from luoshu.connector.store.engine import Store
from luoshu.contracts import ids
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.membership import (
    Endpoints,
    MembershipCredential,
    Role,
    SpaceTrust,
    StatusList,
)
from luoshu.contracts.offer import Limits, Offer
from luoshu.contracts.product import (
    CatalogEntry,
    Classification,
    ClassificationLevel,
    Column,
    ColumnUse,
    DeliveryForm,
    PersonalInformation,
    QualityGrade,
)
from luoshu.contracts.terms import simple_terms
from luoshu.contracts.times import to_milliseconds

SPACE: Final = "bench"
COMMONEST: Final = "data"
"""In the title of every entry, as 数据 is."""

_PLACES: Final = [
    "郑州",
    "洛阳",
    "开封",
    "安阳",
    "新乡",
    "焦作",
    "许昌",
    "南阳",
    "信阳",
    "周口",
    "商丘",
    "驻马店",
    "平顶山",
    "鹤壁",
    "濮阳",
]
_TOPICS: Final = [
    "气象",
    "肺癌",
    "糖尿病",
    "港口",
    "物流",
    "交易",
    "航班",
    "农业",
    "土壤",
    "水文",
    "电力",
    "税务",
    "教育",
    "就业",
    "住房",
    "交通",
    "旅游",
    "环境",
]
_WORDS: Final = [
    "weather",
    "lung",
    "cancer",
    "diabetes",
    "port",
    "logistics",
    "exchange",
    "flight",
    "farm",
    "soil",
    "river",
    "power",
    "tax",
    "school",
    "employment",
    "housing",
    "traffic",
    "tourism",
    "air",
    "quality",
    "survival",
    "station",
    "sensor",
    "ledger",
]
_THEMES: Final = ("health", "transport", "agriculture", "energy", "finance")


class CatalogWorld:
    """The operator's service, and a holder that signs."""

    def __init__(self, ledger: Ledger, service: CatalogService, holder: str, key: SigningKey):
        self.ledger = ledger
        self.service = service
        self.holder = holder
        self._key = key
        self._random = random.Random(20260301)  # noqa: S311 - a fixed world, not a secret
        self._made = 0

    def signed_entries(self, count: int) -> list[bytes]:
        """Makes and signs further entries."""
        return [self._entry() for _ in range(count)]

    async def fill(self, count: int) -> None:
        """Publishes further entries, many at once."""
        pending = self.signed_entries(count)
        for start in range(0, count, 64):
            await asyncio.gather(
                *(self.service.publish(self.holder, e) for e in pending[start : start + 64])
            )

    def _entry(self) -> bytes:
        choose, number = self._random.choice, self._made
        self._made += 1
        place, topic, now = choose(_PLACES), choose(_TOPICS), to_milliseconds(datetime.now(UTC))
        words = self._random.sample(_WORDS, 3)
        terms = simple_terms(purposes=["research"], uses=10, min_units=10)
        entry = CatalogEntry(
            id=ids.product_id(self.holder, f"product-{number}"),
            version=1,
            previous=None,
            issuer=self.holder,
            title=LocalizedText(
                f"{words[0].title()} {words[1]} data {number}", f"{place}{topic}数据"
            ),
            description=LocalizedText(
                f"Data on {' and '.join(words)}, updated daily.",
                f"{place}市{topic}数据，每日更新。",
            ),
            keywords=(words[2], topic),
            theme=choose(_THEMES),
            classification=Classification(
                ClassificationLevel.GENERAL, PersonalInformation.SENSITIVE, 1000
            ),
            quality_grade=QualityGrade.B,
            security_level=3,
            delivery_form=DeliveryForm.DATASET,
            source="register",
            update_cycle="daily",
            columns=(Column("region", "VARCHAR", (ColumnUse.GROUP,)),),
            privacy_unit="person",
            release=terms.release,
            offers=(Offer("standard", ("*",), terms, Limits()),),
            issued_at=now,
            valid_until=now + timedelta(days=365),
        )
        return entry.sign(self._key).to_bytes()


@contextmanager
def catalog_world(directory: Path) -> Iterator[CatalogWorld]:
    """Opens an operator's ledger and catalog in a directory."""
    clock = SystemClock()
    now = to_milliseconds(clock.now())
    authority = SigningKey.generate(KeyUse.AUTHORITY)
    operator_id, holder_id = (ids.participant_id(SPACE, name) for name in ("operator", "holder"))
    trust = SpaceTrust(
        space=SPACE,
        authority=authority.public,
        ca_certificate=create_authority("bench", now).certificate_pem.decode(),
        operator_id=operator_id,
        operator_endpoint="127.0.0.1:1",
    )
    keys = {
        (owner, use): SigningKey.generate(use)
        for owner in (operator_id, holder_id)
        for use in (KeyUse.EVENTS, KeyUse.LOG, KeyUse.WITNESS, KeyUse.STATUS)
    }

    def credential(owner: str, role: Role) -> KnownCredential:
        uses = [KeyUse.EVENTS, KeyUse.LOG, KeyUse.WITNESS]
        if role is Role.OPERATOR:
            uses.append(KeyUse.STATUS)
        document = MembershipCredential(
            space=SPACE,
            participant_id=owner,
            name=LocalizedText(owner.rsplit(":", 1)[-1], ""),
            roles=(role,),
            jurisdiction="CN",
            keys=(*(keys[owner, use].public for use in uses), PublicKey.tls(owner.encode())),
            endpoints=Endpoints("127.0.0.1:1"),
            not_before=now - timedelta(minutes=5),
            not_after=now + timedelta(days=30),
            serial=1,
        )
        return KnownCredential(document, document.sign(authority))

    members = MemberDirectory(trust, credential(operator_id, Role.OPERATOR))
    members.admit(credential(holder_id, Role.HOLDER))
    status = StatusList(space=SPACE, version=1, issued_at=now, max_age=86_400)
    members.accept_status(KnownStatus(status, status.sign(keys[operator_id, KeyUse.STATUS])))
    with Store.open(directory / "luoshu.db") as store:
        ledger = Ledger.open(
            directory / "log",
            origin=operator_id,
            key=keys[operator_id, KeyUse.LOG],
            clock=clock,
            store=store,
            projections=[CatalogProjection()],
        )
        try:
            service = CatalogService(ledger, members, clock, bytes(32))
            yield CatalogWorld(ledger, service, holder_id, keys[holder_id, KeyUse.EVENTS])
        finally:
            ledger.close()
