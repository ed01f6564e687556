"""The search index of one archive in PostgreSQL (`formats.search.contract.Index`).

Writers take turns: a transaction that writes holds the archive's row. A message that is gone goes with its rows, and
all of an index goes where another archive took the place of the one that it is of.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, islice
from typing import Any, ClassVar, Final, Self
from uuid import UUID

from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from syncd.db.bulk import pieces
from syncd.db.database import Database
from syncd.db.search import leftovers
from syncd.db.search.statement import Part, statements
from syncd.db.search.tables import ARCHIVE_MARK, search_archives, search_mailboxes, search_messages, search_places
from syncd.errors import StorageError
from syncd.formats.search.contract import SHOWN, Box, Document, Hit, storable
from syncd.formats.search.order import unpacked
from syncd.formats.search.question import Question
from syncd.formats.search.statement import EPOCH, MINUTE_S, candidates, seconds
from syncd.mail.message import Origin

VERSION: Final = 2
PAGE: Final = 1_000  # keys read at once
LONGEST_KEY: Final = 2_000  # octets; an entry of PostgreSQL's indexes has at most 2,704. Only paths of files are longer
ROWS: Final = 100  # messages in a statement: at most 100 MB of words
FIRST: Final = 2  # ids that a message may have, which are looked up together for all of a batch; then twice as many
PLACES: Final = 20  # mailboxes that are shown of a message
_M: Final = search_messages.c
_MESSAGES: Final = """INSERT INTO search_messages
    (archive_id, id, key, at, octets, attachments, sender, subject, words, word_order)
    SELECT %s, id, key, at, octets, attachments, sender, subject, array_to_tsvector(string_to_array(words, ' ')),
        word_order
    FROM unnest(%b::bigint[], %b::bytea[], %b::bigint[], %b::bigint[], %b::integer[],
        %b::text[], %b::text[], %b::text[], %b::bytea[])
    AS fresh (id, key, at, octets, attachments, sender, subject, words, word_order)"""
_PLACES: Final = """INSERT INTO search_places (mailbox_id, message, archive_id)
    SELECT mailbox, message, %s FROM unnest(%b::bigint[], %b::bigint[]) AS seen (mailbox, message)
    ON CONFLICT DO NOTHING"""
# LATERAL with LIMIT has PostgreSQL look into an index for each of them. Given a list, it reads a whole archive while it
# has no figures of the table: the first 100,000 messages then take ten times as long.
_NUMBERS: Final = """SELECT wanted.key, m.id FROM unnest(%b::bytea[]) AS wanted (key) CROSS JOIN LATERAL
    (SELECT id FROM search_messages WHERE archive_id = %s AND key = wanted.key LIMIT 1) AS m"""
_TAKEN: Final = """SELECT wanted.id FROM unnest(%b::bigint[]) AS wanted (id) CROSS JOIN LATERAL
    (SELECT FROM search_messages WHERE archive_id = %s AND id = wanted.id LIMIT 1) AS m"""


class TableIndex:
    """An open index. For one thread. Raises DiskFull, Locked, LedgerError; StorageError where it was removed."""

    elsewhere: ClassVar[bool] = True
    keeps_order: ClassVar[bool] = True

    def __init__(self, database: Database, number: int) -> None:
        self._database = database
        self._number = number
        self._writing: Connection | None = None
        self._mailboxes: dict[tuple[bytes, bytes], int] = {}

    @classmethod
    def open(cls, database: Database, configuration: str, name: str, uuid: UUID | None) -> Self | None:
        """Open the index of an archive; None where there is none, or none that is of use.

        `uuid` is the archive's, None where the archive is not here and nobody can ask it.
        """
        with database.read() as connection:
            row = connection.execute(_of(configuration, name)).first()
        return cls(database, row.id) if row is not None and _is_of_use(row, uuid) else None

    @classmethod
    def make(cls, database: Database, configuration: str, name: str, uuid: UUID) -> Self:
        """Open the index of an archive; where there is none of use, begin a new one."""
        found = cls.open(database, configuration, name, uuid)
        if found is not None:
            return found
        leftovers.remove(database, configuration, name)
        with database.write() as connection:
            fresh = {"uuid": uuid.bytes, "version": VERSION, "mark": "", "latest": 0}
            made = insert(search_archives).values(configuration=configuration, name=name, **fresh)
            connection.execute(made.on_conflict_do_nothing())  # somebody else may have made it by now
            return cls(database, connection.execute(_of(configuration, name)).one().id)

    def close(self) -> None:
        """Let go of it."""
        self._mailboxes.clear()

    # --- what is there -------------------------------------------------------------------------------------

    @property
    def mark(self) -> str:
        """Returns how far the archive was read, in its own words; "" at the beginning."""
        with self._read() as connection:
            mark = connection.execute(
                select(search_archives.c.mark).where(search_archives.c.id == self._number)
            ).scalar()
        return str(mark or "")

    @property
    def messages(self) -> int:
        """Returns how many messages are in the index."""
        with self._read() as connection:
            counted = select(func.count()).select_from(search_messages).where(_M.archive_id == self._number)
            return int(connection.execute(counted).scalar_one())

    def lacking(self, keys: Sequence[bytes]) -> set[bytes]:
        """Returns those of some messages that are not in the index, without keys that are too long for it."""
        with self._read() as connection:
            return {key for key in keys if len(key) <= LONGEST_KEY} - self._numbers(connection, keys).keys()

    def keys(self, start: bytes = b"") -> Iterator[bytes]:
        """Every key that begins so, in pages; what is removed meanwhile may be missing."""
        last, end = start, start + b"\xff" * 300  # names of files have 255 octets at most
        while True:
            page = select(_M.key).where(_M.archive_id == self._number, _M.key > last, _M.key <= end)
            with self._read() as connection:
                found = list(connection.execute(page.order_by(_M.key).limit(PAGE)).scalars())
            if not found:
                return
            last = found[-1]
            yield from found

    # --- writing -------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, which no other writer of this index has at the same time."""
        with self._database.write() as connection:
            mine = search_archives.c.id == self._number, search_archives.c.version == VERSION
            if connection.execute(select(search_archives.c.id).where(*mine).with_for_update()).first() is None:
                raise StorageError("the search index was removed by somebody else; run: syncd archive reindex")
            self._writing = connection
            try:
                yield
            except BaseException:
                self._mailboxes.clear()
                raise
            finally:
                self._writing = None

    def add(self, documents: Sequence[Document]) -> int:
        """Add messages, in a transaction; returns how many were new."""
        connection = self._inside
        known = self._numbers(connection, [one.key for one in documents])
        fresh = {one.key: one for one in documents if one.key not in known}
        known |= self._new_numbers(connection, fresh)
        for some in pieces([self._row(known[key], one) for key, one in fresh.items()], ROWS):
            connection.exec_driver_sql(_MESSAGES, (self._number, *map(list, zip(*some, strict=True))))
        self._place(connection, [(known[one.key], one.origins) for one in documents])
        return len(fresh)

    def place(self, key: bytes, origins: Iterable[Origin]) -> None:
        """Note that a message was seen in mailboxes, in a transaction."""
        known = self._numbers(self._inside, [key])
        self._place(self._inside, [(number, tuple(origins)) for number in known.values()])

    def forget(self, key: bytes) -> None:
        """Remove a message, in a transaction."""
        for number in self._numbers(self._inside, [key]).values():
            here = search_places.c.archive_id == self._number, search_places.c.message == number
            self._inside.execute(delete(search_places).where(*here))
            self._inside.execute(delete(search_messages).where(_M.archive_id == self._number, _M.id == number))

    def set_mark(self, mark: str) -> None:
        """Note how far the archive was read, in a transaction."""
        self._inside.execute(update(search_archives).where(search_archives.c.id == self._number).values(mark=mark))

    def tidy(self) -> None:
        """Have the database sort in what it has put off, and know what is frequent: it then chooses the faster way."""
        with self._database.write() as connection:
            connection.exec_driver_sql("SELECT gin_clean_pending_list('ix_search_messages_words')")
            connection.exec_driver_sql("ANALYZE search_messages, search_places")

    # --- asking --------------------------------------------------------------------------------------------

    def mailboxes(self) -> dict[int, Box]:
        """Returns every mailbox by its number."""
        box = search_mailboxes.c
        wanted = select(box.id, box.account, box.name, box.path).where(box.archive_id == self._number)
        with self._read() as connection:
            rows = connection.execute(wanted).all()
        return {row.id: Box(UUID(bytes=row.account), row.name, tuple(json.loads(row.path))) for row in rows}

    def find(
        self,
        question: Question,
        limit: int,
        below: int | None = None,
        within: Collection[int] | None = None,
        without: Collection[int] = (),
    ) -> list[Hit]:
        """Returns messages that answer a question, the newest first: see `contract`."""
        with self._read() as connection:
            latest = connection.execute(
                select(search_archives.c.latest).where(search_archives.c.id == self._number)
            ).scalar()
            rows: Sequence[Row[Any]] = []
            for wanted in statements(question, Part(self._number, latest or 0, below, within, without)):
                rows = connection.execute(wanted.limit(limit)).all()
                if len(rows) == limit:
                    break
            seen = self._seen(connection, [row.id for row in rows])
        return [_hit(row, seen.get(row.id, [])[:PLACES]) for row in rows]

    def texts(self, messages: Sequence[int]) -> dict[int, list[list[str]]]:
        """Returns the texts of messages by their ids, each as words in their order. Raises FormatDamaged."""
        words = func.tsvector_to_array(_M.words).label("words")
        wanted = select(_M.id, words, _M.word_order).where(_M.archive_id == self._number, _M.id.in_(messages))
        with self._read() as connection:
            rows = connection.execute(wanted).all()
        return {row.id: unpacked(row.words, row.word_order) for row in rows}

    def _seen(self, connection: Connection, messages: Sequence[int]) -> dict[int, list[tuple[str, str]]]:
        """Returns account and path of the mailboxes of some messages, by message."""
        found: dict[int, list[tuple[str, str]]] = {}
        place, box = search_places.c, search_mailboxes.c
        for some in pieces(messages):
            rows = connection.execute(
                select(place.message, box.name, box.path)
                .join(search_mailboxes, box.id == place.mailbox_id)
                .where(place.archive_id == self._number, place.message.in_(some))
                .order_by(place.message, box.id)
            )
            for row in rows:
                found.setdefault(row.message, []).append((row.name, row.path))
        return found

    # --- inside --------------------------------------------------------------------------------------------

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """A connection: that of the transaction under way, if there is one."""
        if self._writing is not None:
            yield self._writing
            return
        with self._database.read() as connection:
            yield connection

    @property
    def _inside(self) -> Connection:
        assert self._writing is not None, "only in a transaction"
        return self._writing

    def _numbers(self, connection: Connection, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Returns the ids of messages that are in the index."""
        rows = connection.exec_driver_sql(_NUMBERS, (list(keys), self._number))
        return {row.key: row.id for row in rows}

    def _new_numbers(self, connection: Connection, fresh: dict[bytes, Document]) -> dict[bytes, int]:
        """Returns an id that is free for each new message, as if they came one by one."""
        ways = {key: candidates(key, seconds(one.at or EPOCH)) for key, one in fresh.items()}
        asked: dict[bytes, list[int]] = {key: [] for key in fresh}
        taken: set[int] = set()
        chosen: dict[int, bytes] = {}
        lacking = list(fresh)
        while lacking:
            more = {key: list(islice(ways[key], len(asked[key]) or FIRST)) for key in lacking}
            taken |= self._taken(connection, set(chain.from_iterable(more.values())))
            for key, numbers in more.items():
                asked[key] += numbers
            chosen, lacking = {}, []
            for key, numbers in asked.items():
                number = next((it for it in numbers if it not in taken and it not in chosen), None)
                if number is None:
                    lacking.append(key)
                else:
                    chosen[number] = key
        late = max((it - seconds(fresh[key].at or EPOCH) // MINUTE_S for it, key in chosen.items()), default=0)
        if late:
            latest = func.greatest(search_archives.c.latest, late)
            connection.execute(
                update(search_archives).where(search_archives.c.id == self._number).values(latest=latest)
            )
        return {key: number for number, key in chosen.items()}

    def _taken(self, connection: Connection, numbers: Collection[int]) -> set[int]:
        return set(connection.exec_driver_sql(_TAKEN, (list(numbers), self._number)).scalars())

    def _row(self, number: int, one: Document) -> tuple[object, ...]:
        words = f"{ARCHIVE_MARK}{self._number} {one.words}".rstrip()
        shown = one.sender[:SHOWN], one.subject[:SHOWN]
        return number, one.key, seconds(one.at or EPOCH), one.octets, one.attachments, *shown, words, one.order

    def _place(self, connection: Connection, seen: Iterable[tuple[int, Sequence[Origin]]]) -> None:
        rows = [(self._mailbox(connection, it), number) for number, origins in seen for it in origins]
        if rows:
            connection.exec_driver_sql(_PLACES, (self._number, *map(list, zip(*rows, strict=True))))

    def _mailbox(self, connection: Connection, origin: Origin) -> int:
        key = origin.account.bytes, origin.mailbox
        if key not in self._mailboxes:
            made = insert(search_mailboxes).values(
                archive_id=self._number,
                account=key[0],
                mailbox=key[1],
                name=storable(origin.account_name),
                path=json.dumps(origin.path),
            )
            named = {"name": made.excluded.name, "path": made.excluded.path}
            ours = made.on_conflict_do_update(index_elements=["archive_id", "account", "mailbox"], set_=named)
            self._mailboxes[key] = connection.execute(ours.returning(search_mailboxes.c.id)).scalar_one()
        return self._mailboxes[key]


def _of(configuration: str, name: str) -> Any:  # a SELECT
    row = search_archives.c
    return select(row.id, row.uuid, row.version).where(row.configuration == configuration, row.name == name)


def _is_of_use(row: Row[Any], uuid: UUID | None) -> bool:
    return row.version == VERSION and (uuid is None or row.uuid == uuid.bytes)


def _hit(row: Row[Any], seen: Sequence[tuple[str, str]]) -> Hit:
    accounts = tuple(dict.fromkeys(name for name, _ in seen if name))
    paths = tuple(dict.fromkeys(tuple(json.loads(path)) for _, path in seen))
    at = EPOCH + timedelta(seconds=row.at)
    return Hit(row.id, row.key, at, row.octets, row.attachments, row.sender, row.subject, accounts, paths)
