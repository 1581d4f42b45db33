"""Damage that knows what a file is made of: its numbers, tokens, lines and members, rather than its bytes."""

__all__ = ["damage"]

import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import scenes
from seeds import standard_graph

_INTEGERS = (-1, 0, 1, 2, 3, 5, 7, 255, 1 << 16, 1 << 20, 1 << 26, (1 << 31) - 1, -(1 << 31), 1 << 30)
_LONG = (*_INTEGERS, 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63))
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, -1e38, 3.4e38, float("nan"), float("inf"), -float("inf"), 0.5)
_WORDS = (b"nan", b"inf", b"-inf", b"1e38", b"-1e38", b"1e999", b"-1", b"0", b"1", b"2", b"2147483647", b"2147483648",
          b"99999999999999999999", b"[", b"]", b"[ ]", b"<eps>", b"\xff", b"\xef\xbb\xbf", b"a", b"<Nnet>", b"</Nnet>",
          b"<!EndOfComponent>", b"0x10", b"1_0", b"+1", b"1.5", "é".encode(), b"")  # fmt: skip
_TAGS = ("AffineTransform LinearTransform Sigmoid Tanh Softmax HiddenSoftmax LengthNormComponent BlockSoftmax Dropout "
         "ParametricRelu Splice Copy AddShift Rescale Relu Linear Maxout Rbm KlHmm LstmProjected RecurrentComponent "
         "MaxPoolingComponent SentenceAveragingComponent ParallelComponent").split()  # fmt: skip
_AROUND = (b"IfDefined(%s)", b"Round(%s, 3)", b"Offset(%s, 1000)", b"Sum(%s, %s)", b"Failover(%s, %s)",
           b"Switch(%s, %s)", b"ReplaceIndex(%s, t, 0)", b"Append(%s, %s)", b"Scale(1e38, %s)")  # fmt: skip
_RANGES = ("[0:0]", "[0:1,0:2]", "[1:0]", "[:]", "[0:999999999]", "[,0:0]", "[]", "[0:1,0:1,0:1]", "[-1:0]", ":0",
           ":99999999", " |", "../x", "/dev/zero", "[0:0,:]", "[:,1:1]")  # fmt: skip
_KINDS = (b"'<f8'", b"'<i8'", b"'|O'", b"'<U1'", b"'>f4'", b"'<M8[s]'", b"'<u8'", b"'<c8'", b"'|S3'", b"'|b1'")
_SHAPES = (b"()", b"(0,)", b"(2,)", b"(-1, 2)", b"(1099511627776,)", b"(2, 0)", b"(1, 2, 3, 1)")

Change = Callable[[bytes, Random], bytes]


def damage(target: str, content: bytes, random: Random) -> bytes:
    """An input of a target after one to four changes, most of them to its structure.

    Args:
        target: The reader.
        content: A good input of it, or one that was changed before.
        random: Decides what is changed.

    Returns:
        The changed input.
    """
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        change = random.choice(_CHANGES.get(target, (_numbers, _bytes)))
        content = change(content, random)
        if len(content) > 1 << 16:
            return content[: 1 << 16]
    return content


def _bytes(content: bytes, random: Random) -> bytes:
    """Replace, put in, take out, double or cut off some bytes, wherever."""
    data, place = bytearray(content), random.randrange(len(content) + 1)
    piece = random.choice((random.randbytes(random.randint(1, 4)), random.choice(_WORDS)))
    match random.randrange(6):
        case 0:
            data[place : place + len(piece)] = piece
        case 1:
            data[place:place] = piece
        case 2:
            del data[place : place + random.randint(1, 64)]
        case 3:
            data[place:place] = data[place : place + random.randint(1, 256)]
        case 4:
            del data[place:]
        case 5 if data:
            data[place - 1] ^= 1 << random.randrange(8)
    return bytes(data)


def _number(random: Random) -> bytes:
    form = random.choice(("<i", "<q", "<f", ">I", ">i", "<d", "<H"))
    if form in ("<f", "<d"):
        return struct.pack(form, random.choice(_FLOATS))
    value = random.choice(_LONG)
    size = struct.calcsize(form)
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little" if form[0] == "<" else "big")


def _numbers(content: bytes, random: Random) -> bytes:
    """Overwrite four or eight bytes by a number; early ones, which are headers, as often as all others."""
    place = random.randrange(min(len(content), 64) + 1 if random.random() < 0.5 else len(content) + 1)
    piece = _number(random)
    return content[:place] + piece + content[place + len(piece) :]


def _kaldi_numbers(content: bytes, random: Random) -> bytes:
    """Overwrite a number of Kaldi's binary form: a byte that says its size stands before it."""
    places = [match.end() for match in re.finditer(rb"\x04(?=.{4})", content, re.DOTALL)]
    if not places:
        return _tokens(content, random)
    place = random.choice(places)
    number = struct.pack("<i", random.choice(_INTEGERS))
    if random.random() < 0.3:
        number = struct.pack("<f", random.choice(_FLOATS))
    return content[:place] + number + content[place + 4 :]


def _kaldi_values(content: bytes, random: Random) -> bytes:
    """Overwrite values inside a float matrix or vector of the binary form."""
    found = [match.end() for match in re.finditer(rb"F([MV]) \x04.{4}(?:\x04.{4})?", content, re.DOTALL)]
    if not found:
        return _tokens(content, random)
    start = random.choice(found)
    for _ in range(random.randint(1, 8)):
        place = start + 4 * random.randrange(64)
        if place + 4 <= len(content):
            content = content[:place] + struct.pack("<f", random.choice(_FLOATS)) + content[place + 4 :]
    return content


def _tags(content: bytes, random: Random) -> bytes:
    """Make a component another, or of another number of inputs."""
    places = [*re.finditer(rb"<(\w+)> ", content)]
    if not places:
        return _bytes(content, random)
    place = random.choice(places)
    tag = random.choice(_TAGS).encode()
    return content[: place.start(1)] + tag + content[place.end(1) :]


def _components(content: bytes, random: Random) -> bytes:
    """Leave out, double or exchange whole components; or put in a small one."""
    parts = re.split(rb"(?=<(?!/|!|Learn|Bias|Max|Alpha|Beta|Drop)\w+> )", content)
    if len(parts) < 3:
        return _tags(content, random)
    place, other = random.randrange(1, len(parts)), random.randrange(1, len(parts))
    match random.randrange(4):
        case 0:
            del parts[place]
        case 1:
            parts.insert(place, parts[other])
        case 2:
            parts[place], parts[other] = parts[other], parts[place]
        case 3:
            size = random.choice((1, 2, 3, 5, 6))
            numbers = struct.pack("<BiBi", 4, size, 4, size) if content[:2] == b"\0B" else b"%d %d \n" % (size, size)
            parts.insert(place, f"<{random.choice(_TAGS)}> ".encode() + numbers)
    return b"".join(parts)


def _tokens(content: bytes, random: Random) -> bytes:
    """Replace, double, drop or exchange words between white space."""
    parts = re.split(rb"(\s+)", content)
    words = range(0, len(parts), 2)
    place, other = random.choice(words), random.choice(words)
    match random.randrange(5):
        case 0 | 1:
            parts[place] = random.choice(_WORDS)
        case 2:
            parts[place] = parts[place] + b" " + parts[place]
        case 3:
            parts[place] = b""
        case 4:
            parts[place], parts[other] = parts[other], parts[place]
    return b"".join(parts)


def _descriptors(content: bytes, random: Random) -> bytes:
    """Change what a node of nnet3 reads: another node, far away, deeper inside, twice, or without a bracket."""
    places = [*re.finditer(rb"input=([^\n]*)\n", content)]
    names = re.findall(rb"name=(\S+)", content)
    if not places or not names:
        return _tokens(content, random)
    place = random.choice(places)
    text = place[1]
    words = [*re.finditer(rb"[A-Za-z_][\w.-]*|-?\d+", text)]
    word = random.choice(words) if words else re.search(rb"", text)
    assert word is not None
    name, number = random.choice(names), str(random.choice(_INTEGERS)).encode()
    match random.randrange(7):
        case 0:
            text = text[: word.start()] + name + text[word.end() :]
        case 1:
            text = text[: word.start()] + number + text[word.end() :]
        case 2:
            around = random.choice(_AROUND)
            text = around.replace(b"%s", text)
        case 3:
            text = (b"IfDefined(" * 40) + text + (b")" * 40)
        case 4:
            text = text[: len(text) // 2] + text[len(text) // 2 + 1 :]
        case 5:
            text = b"Offset(" + name + b", " + number + b")"
        case 6:
            text = b"Sum(" + text + b", Const(" + number + b", " + number + b"))"
    return content[: place.start(1)] + text + content[place.end(1) :]


def _config_lines(content: bytes, random: Random) -> bytes:
    """Drop, double or exchange lines of nnet3's nodes, or change a number in one."""
    places = [*re.finditer(rb"[a-z-]+-node name=[^\n]*\n", content)]
    if not places:
        return _tokens(content, random)
    place, other = random.choice(places), random.choice(places)
    line = place[0]
    match random.randrange(4):
        case 0:
            line = b""
        case 1:
            line = line + other[0]
        case 2:
            line = other[0]
        case 3:
            line = re.sub(rb"=\d+", b"=" + str(random.choice(_INTEGERS)).encode(), line)
    return content[: place.start()] + line + content[place.end() :]


def _lines(content: bytes, random: Random) -> bytes:
    """Drop, double or exchange lines, or end one with a range, an offset or a pipe."""
    lines = content.splitlines(keepends=True) or [b""]
    place, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            del lines[place]
        case 1:
            lines.insert(other, lines[place])
        case 2:
            lines[place], lines[other] = lines[other], lines[place]
        case 3:
            lines[place] = lines[place].rstrip(b"\n") + random.choice(_RANGES).encode() + b"\n"
        case 4:
            kept = re.split(rb"(?::\d+)?(?:\[[^\n]*)?\n?$", lines[place], maxsplit=1)[0]
            lines[place] = kept + random.choice(_RANGES).encode() + b"\n"
    return b"".join(lines)


def _tree(value: Any, random: Random, depth: int = 0) -> Any:
    """A JSON value with one of its parts changed."""
    odd: tuple[Any, ...] = (None, True, -1, 0, 1 << 70, 1e308, float("nan"), "", "x" * 99, [], {}, [[]], [0], {"a": 1})
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        match random.randrange(6):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, random.choice(("", "x", key + "2")): value[key]}
            case _:
                return {**value, key: _tree(value[key], random, depth + 1)}
    if isinstance(value, list) and value and random.random() < 0.7:
        place = random.randrange(len(value))
        match random.randrange(4):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value[:place] + value[place:] * 2
            case _:
                return [*value[:place], _tree(value[place], random, depth + 1), *value[place + 1 :]]
    if isinstance(value, int | float) and random.random() < 0.7:
        return random.choice((*_LONG, *_FLOATS, value + 1, -value))
    return random.choice(odd)


def _json(content: bytes, random: Random) -> bytes:
    try:
        lines = [json.loads(line) for line in ([content] if content[-2:-1] != b"}" else content.splitlines())]
    except (ValueError, RecursionError):
        try:
            lines = [json.loads(content)]
        except (ValueError, RecursionError):
            return _tokens(content, random)
    place = random.randrange(len(lines)) if lines else 0
    if lines:
        lines[place] = _tree(lines[place], random)
    return "\n".join(json.dumps(line) for line in lines).encode()


def _safetensors(content: bytes, random: Random) -> bytes:
    """Change the header, and make its length right again."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError):
        return _bytes(content, random)
    text = json.dumps(_tree(header, random)).encode()
    if isinstance(header, dict) and random.random() < 0.4:
        name = random.choice(list(header) or [""])
        entry = header.get(name)
        if isinstance(entry, dict) and "dtype" in entry:
            entry["dtype"] = random.choice(("F32", "F64", "F16", "BF16", "I64", "U8", "I8", "BOOL", "F8_E4M3", "U16"))
            text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def _zipped(content: bytes, random: Random) -> bytes:
    """Change a member of an archive, and pack it again with a right checksum."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()[:50]}
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, RuntimeError, zlib.error):
        return _bytes(content, random)
    if not members:
        return content
    name = random.choice(list(members))
    match random.randrange(5):
        case 0:
            del members[name]
        case 1:
            members[random.choice(("a.npy", "../x.npy", "y.npy", "x"))] = members[name]
        case 2:
            members[name] = re.sub(rb"'[<>|][^']+'", random.choice(_KINDS), members[name], count=1)
        case 3:
            members[name] = re.sub(rb"\([\d, ]*\)", random.choice(_SHAPES), members[name], count=1)
        case 4:
            members[name] = _bytes(members[name], random)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for each, data in members.items():
            archive.writestr(zipfile.ZipInfo(each), data, archive.compression)
    return buffer.getvalue()


def _inside_gzip(change: Change) -> Change:
    def changed(content: bytes, random: Random) -> bytes:
        if content[:2] != b"\x1f\x8b":
            return change(content, random)
        try:
            return gzip.compress(change(gzip.decompress(content), random), 1, mtime=0)
        except (OSError, EOFError, zlib.error):
            return _bytes(content, random)

    return changed


def _graph(_: bytes, random: Random) -> bytes:
    """A small graph, with cycles, arcs without labels, odd weights, and now and then an arc to nowhere."""
    states = random.randint(1, 6)
    costs = (0.0, 0.5, 0.25, -0.5, 1.0, *random.sample(_FLOATS, 3))
    odd = random.random() < 0.15

    def label(most: int) -> int:
        return random.choice((0, 0, random.randint(1, most), random.choice(_INTEGERS) if odd else 1))

    found: list[tuple[float, list[tuple[int, int, float, int]]]] = []
    for _number in range(states):
        arcs = [
            (label(12), label(4), random.choice(costs), random.randrange(states + odd))
            for _arc in range(random.randint(0, 5))
        ]
        found.append((random.choice((float("inf"), 0.0, random.choice(costs))), arcs))
    return standard_graph(found, random.choice((0, 0, 0, states - 1, random.choice(_INTEGERS))))


def _fst_numbers(content: bytes, random: Random) -> bytes:
    """Overwrite one of a graph's numbers, all of which are four or eight bytes after two names."""
    start = 26 if content[4:5] == b"\x06" else 25
    place = start + 4 * random.randrange(max(1, (len(content) - start) // 4))
    number = struct.pack("<f", random.choice(_FLOATS)) if random.random() < 0.5 else _number(random)[:4]
    return content[:place] + number + content[place + len(number) :]


_OPTIONS: dict[str, tuple[Any, ...]] = {
    "cmvn": ("none", "speaker", "utterance"),
    "norm_vars": (True, False),
    "deltas": (0, 1, 2, 4, 5, -1),
    "left_context": (0, 1, 5, 1000, -1),
    "right_context": (0, 1, 5, 1000),
    "no_softmax": (True, False),
    "apply_log": (True, False),
    "prior_scale": (0.0, 1.0, 1e38, float("inf"), float("nan")),
    "prior_floor": (0.0, 1e-10, 0.5, 1.0),
    "mean": ("arithmetic", "geometric"),
    "text": (True, False),
    "beam": (13.0, 0.001, 1e30, 0.0),
    "max_active": (7000, 20, 19, (1 << 31) - 1),
    "acoustic_scale": (0.1, 1.0, 1e-30, 1e30),
    "frame_shift": (0.01, 1e-300, 1e300),
}


def _settings(content: bytes, random: Random) -> bytes:
    try:
        chosen = dict(json.loads(content or b"{}"))
    except (ValueError, TypeError, RecursionError):
        chosen = {}
    name = random.choice(list(_OPTIONS))
    if random.random() < 0.2:
        chosen.pop(name, None)
    else:
        chosen[name] = random.choice(_OPTIONS[name])
    return json.dumps(chosen).encode()


_KALDI: tuple[Change, ...] = (_kaldi_numbers, _kaldi_values, _tokens, _bytes)
_NNET: tuple[Change, ...] = (_kaldi_numbers, _kaldi_values, _tokens, _tags, _components, _bytes)
_MEMBERS: dict[str, tuple[Change, ...]] = {
    "net": _NNET,
    "net2": _NNET,
    "transform": _NNET,
    "feats.ark": _KALDI,
    "cmvn.ark": _KALDI,
    "loglikes.ark": _KALDI,
    "feats.scp": (_lines, _lines, _tokens, _bytes),
    "cmvn.scp": (_lines, _tokens),
    "utt2spk": (_lines, _tokens),
    "counts": (_tokens, _bytes),
    "words.txt": (_lines, _tokens),
    "text": (_lines, _tokens),
    "HCLG.fst": (_graph, _graph, _fst_numbers, _fst_numbers, _bytes),
    "final.mdl": (_kaldi_numbers, _kaldi_numbers, _bytes),
    "options": (_settings,),
}


def _member(content: bytes, random: Random) -> bytes:
    """Change one file of a bundle; leave one out or empty now and then."""
    members = scenes.unpack(content)
    if not members or random.random() < 0.02:
        return _bytes(content, random)
    members.setdefault("options", b"{}")
    name = random.choice(list(members))
    chance = random.random()
    if chance < 0.02:
        del members[name]
    elif chance < 0.04:
        members[name] = b""
    else:
        members[name] = random.choice(_MEMBERS.get(name, (_bytes,)))(members[name], random)
    return scenes.pack(members)


def _behind(first: int, changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """The same behind some bytes that say what the input claims to be."""
    return tuple(lambda data, random, each=each: data[:first] + each(data[first:], random) for each in changes)


_CHANGES: dict[str, tuple[Change, ...]] = {
    "idx": (_inside_gzip(_numbers), _inside_gzip(_bytes), _bytes),
    "mat": (_numbers, _bytes),
    "npz": (_zipped, _zipped, _zipped, _bytes),
    "picture": _behind(1, (_numbers, _bytes)),
    "ark": _behind(1, _KALDI),
    "scp": (_lines, _lines, _tokens, _bytes),
    "nnet1": _NNET,
    "nnet3": (_descriptors, _descriptors, _kaldi_numbers, _kaldi_values, _config_lines, _tokens, _bytes),
    "transitions": (_kaldi_numbers, _kaldi_numbers, _tokens, _bytes),
    "alignments": tuple(map(_inside_gzip, _KALDI)),
    "checkpoint": (_safetensors, _safetensors, _bytes),
    "model_weights": (_safetensors, _safetensors, _bytes),
    "model_config": (_json, _json, _json, _tokens),
    "ensemble": (_json, _json, _json, _tokens),
    "toml": (_tokens, _lines, _bytes),
    "json": (_json, _json, _tokens),
    "manifest": (_json, _json, _json, _tokens),
    "shard": (_safetensors, _safetensors, _numbers),
    "tail": (_safetensors, _safetensors, _numbers),
    "forward": (_member,),
    "decode": (_member,),
}
