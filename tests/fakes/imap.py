"""A scripted IMAP server on a real loopback socket, with every fault we know of.

    with FakeImap() as server:
        server.box("INBOX").add(b"Subject: hi\\r\\n\\r\\nhello\\r\\n")
        server.replies["EXAMINE Sent"] = b"<tag> NO [SERVERBUG] not today\\r\\n"
        ... connect to server.port, sign in as "user" with "secret" ...
        assert server.commands == ["CAPABILITY", "LOGIN user secret", "LIST …", …]

Well-behaved by default; attributes change it, before or while it runs. One thread for each connection. Commands are
kept without their tags; in scripted replies `<tag>` stands for the tag of the command that is answered.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

from tests.fakes import sasl
from tests.fakes.imap_store import DATE, Box, Mail, list_line, row
from tests.fakes.imap_words import LITERAL_AT_END, Word, flat, quoted, words

USERNAME, PASSWORD = "user", "secret"
BARE = ("IMAP4rev1",)
PLAIN = ("IMAP4rev1", "SASL-IR", "STARTTLS", "AUTH=PLAIN", "LITERAL+", "ID", "ENABLE")
EXTENDED = (
    "IMAP4rev1", "SASL-IR", "LITERAL+", "ID", "ENABLE", "IDLE", "NAMESPACE", "UNSELECT", "UIDPLUS", "LIST-EXTENDED",
    "LIST-STATUS", "SPECIAL-USE", "CONDSTORE", "QRESYNC", "ESEARCH",
)  # fmt: skip
GMAIL = ("IMAP4rev1", "UNSELECT", "NAMESPACE", "ID", "X-GM-EXT-1", "UIDPLUS", "SPECIAL-USE", "ENABLE", "LIST-STATUS",
         "CONDSTORE", "ESEARCH")  # fmt: skip
_TWO_WORDS = ("UID",)


class FakeImap:
    """The server. A context manager; its threads end with it."""

    host = "127.0.0.1"

    def __init__(self, *, tls: ssl.SSLContext | None = None, implicit: bool = False) -> None:
        self.boxes: dict[bytes, Box] = {b"INBOX": Box()}
        self.delimiter = b"/"
        self.namespace = b'(("" "/")) NIL NIL'
        self.greeting = b"* OK ready\r\n"
        self.capabilities: tuple[str, ...] = PLAIN
        self.inside: tuple[str, ...] | None = EXTENDED  # after sign-in, in its reply; None: nothing new is said
        self.replies: dict[str, bytes | Callable[[], bytes]] = {}  # to verbs, or to whole commands: raw octets
        self.on: dict[str, Callable[[list[Word]], bytes | None]] = {}  # to verbs, by arguments; None: as usual
        self.after: dict[
            str, Callable[[bytes, list[Word]], bytes]
        ] = {}  # by verb: makes of the usual reply another one
        self.before: dict[str, bytes] = {}  # to verbs or whole commands: octets in front of the usual reply
        self.hangs_up_on: set[str] = set()  # verbs or whole commands
        self.hangs_on: set[str] = set()
        self.cut_after: int | None = None  # octets sent on a connection
        self.drip_s: float | None = None  # one octet each so many seconds, from the greeting on
        self.drips_on: str | None = None  # … or from this command on
        self.breaks_off_at: set[int] = set()  # UIDs whose body ends in the middle, and the connection with it (I132)
        self.leaves_out: set[int] = set()  # UIDs without a row in replies that have bodies (I131, I132)
        self.refuses: set[int] = set()  # UIDs whose body makes the whole FETCH end with NO, after the rows before it
        self.serves: dict[int, bytes] = {}  # UID → other octets than the mailbox has (I131)
        self.backwards = False  # rows of FETCH in reverse
        self.uid_last = False  # the UID behind the body in its row (I133)
        self.before_literal: Callable[[bytes], bytes | None] | None = None  # by the line; octets refuse the literal
        self.loses_literal: int | None = None  # the literal (counted from 0) in whose middle the connection is lost
        self.loses_after_literal = False  # … or just behind its last octet
        self.loses_reply_to: set[str] = set()  # verbs that are carried out and then not answered, but hung up on
        self.alters: Callable[[bytes], bytes] = bytes  # what is stored instead of what came (I154)
        self.hides: set[bytes] = set()  # mailboxes that LIST does not have
        self.folds_case = False  # names that differ in nothing but case are of one mailbox (I41)
        self.swallows: set[bytes] = set()  # messages that are taken with OK and not kept
        self.stores_and_says: bytes | None = None  # instead of OK to an APPEND that was carried out (I161)
        self.takes: Callable[[list[bytes]], bytes | None] = lambda _: None  # by the octets of an APPEND; a no in octets
        self.violations: list[bytes] = []  # lines with a literal that was not to be sent without being asked for (I106)
        self.literals = 0  # that came
        self.last_for_missing = False  # a single UID that is not there is answered with the last message (I130)
        self.commands: list[str] = []
        self.flights: list[int] = []  # commands that came in one piece
        self.connections = 0
        self.storing = threading.Lock()  # several connections may fill one mailbox
        self.stop = threading.Event()
        self.hanging = threading.Event()  # it has come to where it hangs, or greets nobody
        self.dripped = 0  # octets that were sent one by one
        self._tls = tls
        self._implicit = implicit
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._threads.append(threading.Thread(target=self._accept, name="fake imap", daemon=True))
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop.set()
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):  # wakes accept(2) and recv(2), which close would not
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def settle(self) -> None:
        """Wait until all that clients have said is answered; they must have hung up."""
        for thread in self._threads[1:]:
            thread.join()

    def box(self, name: str | bytes, **made: Any) -> Box:
        """The mailbox of this name (as on the wire), made with the fields of Box if it is new."""
        key = name.encode() if isinstance(name, str) else name
        if key not in self.boxes:
            self.boxes[key] = Box(**made)
        return self.boxes[key]

    def spelt(self, name: bytes) -> bytes:
        """The name as the mailbox has it, in any case where the server folds case."""
        return next((it for it in self.boxes if self.folds_case and it.lower() == name.lower()), name)

    def verbs(self) -> list[str]:
        """The commands without their arguments."""
        return [verb_of(command) for command in self.commands]

    def _accept(self) -> None:
        while not self.stop.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), name="fake imap", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(FakeConnection(self, sock, self._tls)) as connection:
            if self._implicit:
                connection.start_tls()
            connection.run()


def verb_of(command: str) -> str:
    """The name of a command: one word, or two (UID FETCH)."""
    first, _, rest = command.partition(" ")
    return f"{first} {rest.partition(' ')[0]}".upper() if first.upper() in _TWO_WORDS else first.upper()


class _Ended(Exception):
    """The client has hung up."""


class FakeConnection:
    """One client."""

    def __init__(self, server: FakeImap, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._server = server
        self._sock = sock
        self._tls = tls
        self._sent = 0
        self._waiting = b""
        self._flight: int | None = None  # where in `flights` the commands of the last piece are counted
        self._inside = False
        self._selected: Box | None = None
        self._mode = b""
        self._tag = b""
        self._dripping = server.drip_s is not None and server.drips_on is None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._sock.close()

    def start_tls(self) -> None:
        assert self._tls is not None
        self._sock = self._tls.wrap_socket(self._sock, server_side=True)

    def run(self) -> None:
        self._send(self._server.greeting)
        if not self._server.greeting:
            self._server.hanging.set()
        with contextlib.suppress(_Ended):
            while self._answer(self._command()):
                pass

    # --- reading ---------------------------------------------------------------------------------------

    def _command(self) -> bytes:
        """The next command with its literals, each granted where it waits for that."""
        command = line = self._line()
        while literal := LITERAL_AT_END.search(line):
            octets = self._literal(line, int(literal[1]), asked=not literal[2])
            if octets is None:
                command = line = self._line()
                continue
            line = self._line()
            command += b"\r\n" + octets + line
        if self._flight is None:
            self._flight = len(self._server.flights)
            self._server.flights.append(0)
        self._server.flights[self._flight] += 1
        return command

    def _literal(self, line: bytes, count: int, *, asked: bool) -> bytes | None:
        """The octets of a literal; None where it is refused instead."""
        server = self._server
        if asked:
            no = server.before_literal(line) if server.before_literal is not None else None
            if no is not None:
                self._send(no.replace(b"<tag>", line.partition(b" ")[0]))
                return None
            self._send(b"+ go on\r\n")
        elif not {"LITERAL+", "LITERAL-"} & set(self._shown) or ("LITERAL+" not in self._shown and count > 4096):
            server.violations.append(line)
        server.literals += 1
        if server.literals - 1 == server.loses_literal:
            self._octets(count if server.loses_after_literal else count // 2)
            raise _Ended
        return self._octets(count)

    @property
    def _shown(self) -> tuple[str, ...]:
        """What is announced now."""
        server = self._server
        return server.inside if self._inside and server.inside is not None else server.capabilities

    def _line(self) -> bytes:
        while b"\r\n" not in self._waiting:
            self._receive()
        line, _, self._waiting = self._waiting.partition(b"\r\n")
        return line

    def _octets(self, count: int) -> bytes:
        while len(self._waiting) < count:
            self._receive()
        octets, self._waiting = self._waiting[:count], self._waiting[count:]
        return octets

    def _receive(self) -> None:
        self._flight = None
        piece = self._sock.recv(65536)
        if not piece:
            raise _Ended
        self._waiting += piece

    # --- answering -------------------------------------------------------------------------------------

    def _answer(self, line: bytes) -> bool:
        server = self._server
        self._tag, _, rest = line.partition(b" ")
        command = rest.decode("utf-8", "replace")
        verb = verb_of(command)
        server.commands.append(command)
        if {command, verb} & server.hangs_up_on:
            return False
        if {command, verb} & server.hangs_on:
            server.hanging.set()
            server.stop.wait()
            return False
        self._dripping |= server.drips_on in {command, verb}
        arguments = words(rest)[2 if " " in verb else 1 :]
        if (front := server.before.get(command, server.before.get(verb))) is not None:
            self._send(front)
        if verb in server.on and (octets := server.on[verb](arguments)) is not None:
            self._send(octets.replace(b"<tag>", self._tag))
            return verb != "LOGOUT"
        scripted = server.replies.get(command, server.replies.get(verb))
        if scripted is not None:
            octets = scripted if isinstance(scripted, bytes) else scripted()
            self._send(octets.replace(b"<tag>", self._tag))
            return verb != "LOGOUT"
        handler = getattr(self, "_" + verb.lower().replace(" ", "_"), None)
        answer = self._bad(b"unknown command") if handler is None else handler(arguments)
        if verb in server.loses_reply_to:
            return False
        self._send(server.after[verb](answer, arguments) if verb in server.after else answer)
        if verb == "STARTTLS":
            self.start_tls()
        return verb != "LOGOUT"

    def _send(self, octets: bytes) -> None:
        server = self._server
        if server.cut_after is not None and self._sent + len(octets) > server.cut_after:
            self._sock.sendall(octets[: max(server.cut_after - self._sent, 0)])
            raise ConnectionError("cut, as the script says")
        self._sent += len(octets)
        if not self._dripping:
            self._sock.sendall(octets)
            return
        for octet in octets:
            self._sock.sendall(bytes([octet]))
            server.dripped += 1
            if server.stop.wait(server.drip_s):
                return

    def _ok(self, text: bytes = b"done") -> bytes:
        return b"%b OK %b\r\n" % (self._tag, text)

    def _no(self, text: bytes) -> bytes:
        return b"%b NO %b\r\n" % (self._tag, text)

    def _bad(self, text: bytes) -> bytes:
        return b"%b BAD %b\r\n" % (self._tag, text)

    # --- any state, and sign-in ------------------------------------------------------------------------

    def _capability(self, _: list[Word]) -> bytes:
        return b"* CAPABILITY %b\r\n%b" % (" ".join(self._shown).encode(), self._ok())

    def _noop(self, _: list[Word]) -> bytes:
        return self._ok()

    def _id(self, _: list[Word]) -> bytes:
        return b'* ID ("name" "fake")\r\n' + self._ok()

    def _enable(self, arguments: list[Word]) -> bytes:
        names = [word for word in arguments if isinstance(word, bytes)]
        return b"* ENABLED %b\r\n%b" % (b" ".join(names), self._ok())

    def _logout(self, _: list[Word]) -> bytes:
        return b"* BYE see you\r\n" + self._ok()

    def _starttls(self, _: list[Word]) -> bytes:
        return self._ok(b"begin")

    def _login(self, arguments: list[Word]) -> bytes:
        return self._sign_in(arguments == [USERNAME.encode(), PASSWORD.encode()])

    def _authenticate(self, arguments: list[Word]) -> bytes:
        mechanism, *initial = [word.decode() for word in arguments if isinstance(word, bytes)]
        exchange = sasl.serve(mechanism, _decoded(initial[0]) if initial else None, sasl.Known(USERNAME, PASSWORD))
        try:
            challenge = next(exchange)
            while True:
                self._send(b"+ " + base64.b64encode(challenge) + b"\r\n")
                answer = self._line()
                if answer == b"*":
                    return self._bad(b"cancelled")
                challenge = exchange.send(_decoded(answer.decode()))
        except KeyError:
            return self._no(b"unknown mechanism")
        except StopIteration as end:
            return self._sign_in(end.value)

    def _sign_in(self, right: bool) -> bytes:  # noqa: FBT001
        self._inside = right
        if not right:
            return self._no(b"[AUTHENTICATIONFAILED] no such user or password")
        inside = self._server.inside
        return self._ok(b"welcome" if inside is None else b"[CAPABILITY %b] welcome" % " ".join(inside).encode())

    # --- mailboxes -------------------------------------------------------------------------------------

    def _namespace(self, _: list[Word]) -> bytes:
        return b"* NAMESPACE %b\r\n%b" % (self._server.namespace, self._ok())

    def _list(self, arguments: list[Word]) -> bytes:
        server = self._server
        returned = arguments[-1] if len(arguments) > 2 and isinstance(arguments[-1], list) else []
        if arguments[:2] == [b"", b""]:
            root = quoted(server.delimiter) if server.delimiter else b"NIL"
            return b'* LIST (\\Noselect) %b ""\r\n%b' % (root, self._ok())
        status = next((after for word, after in pairwise(returned) if word == b"STATUS"), None)
        answer = []
        for name, box in server.boxes.items():
            if name in server.hides:
                continue
            answer.append(list_line(b"LIST", name, box, server.delimiter, extended=b"SUBSCRIBED" in returned))
            if status is not None and not {b"\\Noselect", b"\\NonExistent"} & set(box.attributes):
                answer.append(b"* STATUS %b (%b)\r\n" % (quoted(name), box.status(flat(status))))
        return b"".join(answer) + self._ok()

    def _lsub(self, _: list[Word]) -> bytes:
        server = self._server
        lines = [
            list_line(b"LSUB", name, box, server.delimiter, extended=False)
            for name, box in server.boxes.items()
            if box.subscribed
        ]
        return b"".join(lines) + self._ok()

    def _status(self, arguments: list[Word]) -> bytes:
        box = self._find(arguments[0])
        if box is None:
            return self._no(b"[NONEXISTENT] no such mailbox")
        return b"* STATUS %b (%b)\r\n%b" % (quoted(flat(arguments[0])[0]), box.status(flat(arguments[1])), self._ok())

    def _find(self, word: Word) -> Box | None:
        [name] = flat(word)
        box = self._server.boxes.get(b"INBOX" if name.upper() == b"INBOX" else self._server.spelt(name))
        return None if box is None or b"\\Noselect" in box.attributes else box

    def _examine(self, arguments: list[Word], mode: bytes = b"READ-ONLY") -> bytes:
        self._selected = box = self._find(arguments[0])
        self._mode = mode
        if box is None:
            return self._no(b"[NONEXISTENT] no such mailbox")
        shown = self._server.inside or self._server.capabilities
        lines = [
            b"FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)",
            b"OK [PERMANENTFLAGS (%b)] kept" % b" ".join(box.permanent),
            b"%d EXISTS" % len(box.mail),
            b"0 RECENT",
            b"OK [UIDVALIDITY %d] valid" % box.validity,
            b"OK [UIDNEXT %d] next" % box.next,
            *([b"OK [HIGHESTMODSEQ %d] highest" % box.modseq] if "CONDSTORE" in shown else []),
        ]
        return b"".join(b"* %b\r\n" % line for line in lines) + self._ok(b"[%b] opened" % mode)

    def _select(self, arguments: list[Word]) -> bytes:
        return self._examine(arguments, b"READ-WRITE")

    def _unselect(self, _: list[Word]) -> bytes:
        self._selected = None
        return self._ok()

    def _close(self, arguments: list[Word]) -> bytes:
        if self._selected is not None and self._mode == b"READ-WRITE":
            self._expunge([])
        return self._unselect(arguments)

    # --- mailboxes and messages that come --------------------------------------------------------------

    def _create(self, arguments: list[Word]) -> bytes:
        [name] = flat(arguments[0])
        if self._server.spelt(name) in self._server.boxes:
            return self._no(b"[ALREADYEXISTS] it is there")
        use = [word for argument in arguments[1:] if isinstance(argument, list) for word in flat(argument[1])]
        self._server.box(name, validity=len(self._server.boxes) + 1, subscribed=False, attributes=use)
        return self._ok(b"made")

    def _subscribe(self, arguments: list[Word]) -> bytes:
        box = self._find(arguments[0])
        if box is None:
            return self._no(b"[NONEXISTENT] no such mailbox")
        box.subscribed = True
        return self._ok()

    def _append(self, arguments: list[Word]) -> bytes:
        server, box = self._server, self._find(arguments[0])
        mail = list(_appended(arguments[1:]))
        if len(mail) != 1 and "MULTIAPPEND" not in self._shown:
            return self._bad(b"one message at a time")
        if box is None:
            return self._no(b"[TRYCREATE] no such mailbox")
        with server.storing:
            if (no := server.takes([octets for octets, _, _ in mail])) is not None:
                return self._no(no)
            first = box.next
            for octets, flags, date in mail:
                if octets not in server.swallows:
                    box.add(server.alters(octets), flags=flags, date=date)
        if server.stores_and_says is not None:
            return server.stores_and_says.replace(b"<tag>", self._tag)
        uids = b"%d" % first if len(mail) == 1 else b"%d:%d" % (first, first + len(mail) - 1)
        return self._ok(b"[APPENDUID %d %b] kept" % (box.validity, uids) if "UIDPLUS" in self._shown else b"kept")

    # --- messages --------------------------------------------------------------------------------------

    def _uid_search(self, arguments: list[Word]) -> bytes:
        box, sets = self._selected, [word for word in arguments if isinstance(word, bytes)]
        if box is None:
            return self._bad(b"nothing is selected")
        uids = sets[-1] if sets and sets[-1][:1].isdigit() and b"SINCE" not in sets else b"1:*"
        found = [mail for _, mail in box.chosen(uids) if b"DELETED" not in sets or b"\\Deleted" in mail.flags]
        return b"* SEARCH%b\r\n%b" % (b"".join(b" %d" % mail.uid for mail in found), self._ok())

    def _uid_store(self, arguments: list[Word]) -> bytes:
        uids, how, flags = arguments
        assert isinstance(uids, bytes)
        assert isinstance(how, bytes)
        for _, mail in self._writable().chosen(uids):
            others = [flag for flag in mail.flags if flag not in flat(flags)]
            mail.flags = others + flat(flags) if how.startswith(b"+") else others
        return self._ok()

    def _uid_expunge(self, arguments: list[Word]) -> bytes:
        if "UIDPLUS" not in self._shown:
            return self._bad(b"unknown command")
        [uids] = flat(arguments[0])
        return self._gone([mail for _, mail in self._writable().chosen(uids) if b"\\Deleted" in mail.flags])

    def _expunge(self, _: list[Word]) -> bytes:
        return self._gone([mail for mail in self._writable().mail if b"\\Deleted" in mail.flags])

    def _uid_move(self, arguments: list[Word]) -> bytes:
        uids, target = arguments
        assert isinstance(uids, bytes)
        box, found = self._find(target), [mail for _, mail in self._writable().chosen(uids)]
        if box is None:
            return self._no(b"[TRYCREATE] no such mailbox")
        for mail in found:
            box.add(mail.octets, flags=mail.flags, date=mail.date)
        return self._gone(found)

    def _gone(self, mail: list[Mail]) -> bytes:
        box, lines = self._writable(), []
        for one in mail:
            lines.append(b"* %d EXPUNGE\r\n" % (box.mail.index(one) + 1))
            box.expunge(one.uid)
        return b"".join(lines) + self._ok()

    def _writable(self) -> Box:
        assert self._selected is not None, "nothing is selected"
        assert self._mode == b"READ-WRITE", "it was opened for reading"
        return self._selected

    def _uid_fetch(self, arguments: list[Word]) -> bytes:
        box, server = self._selected, self._server
        if box is None:
            return self._bad(b"nothing is selected")
        uids, items, *_ = arguments
        assert isinstance(uids, bytes)
        chosen = box.chosen(uids)
        if not chosen and server.last_for_missing and box.mail:
            chosen = [(len(box.mail), box.mail[-1])]
        for number, mail in reversed(chosen) if server.backwards else chosen:
            has_body = any(item.upper().startswith(b"BODY") for item in flat(items))
            if has_body and mail.uid in server.leaves_out:
                continue
            if has_body and mail.uid in server.refuses:
                return self._no(b"some messages could not be fetched")
            served = self._served(mail) if has_body else mail
            answer = row(number, served, items, uid_last=server.uid_last)
            if has_body and mail.uid in server.breaks_off_at:
                self._send(answer[: len(answer) - len(served.octets) // 2 - 3])
                raise _Ended
            self._send(answer)
        return self._ok()

    def _served(self, mail: Mail) -> Mail:
        other = self._server.serves.get(mail.uid)
        return mail if other is None else Mail(mail.uid, other, mail.flags, mail.date)


def _appended(arguments: list[Word]) -> Iterator[tuple[bytes, list[bytes], bytes]]:
    """The messages of an APPEND: octets, flags and date."""
    flags: list[bytes] = []
    date = DATE
    for argument, following in zip(arguments, [*arguments[1:], []], strict=True):
        if isinstance(argument, list):
            flags, date = flat(argument), DATE
        elif isinstance(following, bytes):
            date = argument
        else:
            yield argument, flags, date


def _decoded(word: str) -> bytes:
    """A response: "=" is an empty one (RFC 4959 §3)."""
    return b"" if word == "=" else base64.b64decode(word)
