"""Hostile and mistaken experiment files: an error with its line, within a second, never a hang."""

import itertools
import string
from pathlib import Path

import pytest
import yaml

from tests.tiny import weakseg
from tests.work import calls_at_most
from weakseg.config import dump_config, load_config, parse_config
from weakseg.config.yaml_text import MAX_BYTES, dump, parse
from weakseg.errors import ConfigError


def nested(form):
    """Nine aliases of what is before, eight times over: 9 ** 8 values, unfolded."""
    names = list(string.ascii_lowercase[:9])
    lines = [f"{b}: &{b} {form(','.join([f'*{a}'] * 9))}" for a, b in itertools.pairwise(names)]
    return "a: &a {k: 1}\n" + "\n".join(lines)


def chain(links):
    """Each alias is nested in 25 lists: unfolded, far deeper than any of them."""
    rows = [f"a{i}: &a{i} {'[' * 25}*a{i - 1}{']' * 25}" for i in range(1, links)]
    return "a0: &a0 [x]\n" + "\n".join(rows)


REFUSED = {
    "key-twice": ("seed: 1\nname: a\nseed: 2", 3, "'seed' stands twice, first in line 1"),
    "key-twice-below": ("data:\n  channels: grey\n  channels: rgb", 3, "first in line 2"),
    "key-twice-quoted": ("data: {channels: grey, 'channels': rgb}", 1, "stands twice"),
    "merge-twice": ("x: &x {a: 1}\n<<: *x\n<<: *x", 3, "'<<' stands twice"),
    "bomb": (nested("[{}]".format), 5, "more than 10,000 values"),
    "bomb-of-merges": (nested("{{<<: [{}]}}".format), 5, "more than 10,000 values"),
    "alias-in-itself": ("a: &a\n  - *a", 2, "*a stands within itself"),
    "merge-of-itself": ("a: &a\n  <<: *a", 2, "*a stands within itself"),
    "deep": ("a: " + "[" * 5000 + "]" * 5000, 1, "nested more than 30 deep"),
    "deep-lines": ("\n".join(" " * i + "a:" for i in range(400)), 30, "nested more than 30"),
    "deep-dashes": ("- " * 90_000, 1, "nested more than 30 deep"),
    "deep-by-aliases": (chain(20), 3, "nested more than 30 deep"),
    "digits": ("name: a\nseed: " + "9" * 5000, 2, "a number of 5,000 characters"),
    "digits-hex": ("seed: 0x" + "f" * 5000, 1, "a number of 5,002 characters"),
    "keys-without-end": ("\n".join(f"k{i}: 1" for i in range(15_000)), 5000, "10,000 values"),
    "key-no": ("data: {no: 1}", 1, "the key 'no' is no text"),
    "key-number": ("1: a", 1, "the key '1' is no text"),
    "key-null": ("~: a", 1, "the key '~' is no text"),
    "key-list": ("? [a, b]\n: 1", 1, "is no text"),
    "tag-python": ("name: !!python/object/apply:os.system [ls]", 1, "is not known"),
    "tag-binary": ("name: !!binary aGVsbG8=", 1, "is not known"),
    "tag-own": ("\nname: !mine 1", 2, "'!mine' is not known"),
    "no-int": ("seed: !!int x", 1, "'x' is no int"),
    "no-bool": ("seed: !!bool maybe", 1, "'maybe' is no bool"),
    "nul-by-escape": ('data: {manifest: "a\\0b"}', 1, "control characters"),
    "half-a-character": ('data: {manifest: "\\ud800"}', 1, "control characters"),
    "documents": ("name: a\n---\nname: b", 2, "another document"),
    "tab": ("data:\n\tmanifest: a", 2, "cannot start any token"),
    "alias-of-nothing": ("a: *b", 1, "undefined alias 'b'"),
    "merge-of-a-value": ("<<: 3", 1, "expected a mapping"),
    "value-as-key": ("a: b: c", 1, "not YAML"),
    "quotes": ("'" * 190_001, 1, "unexpected end"),
    "nul": ("name: a\n# \0", 2, "U+0000"),
    "bell": ("name: a\n\n\a", 3, "U+0007"),
    "utf-16": ("name: a".encode("utf-16"), 1, "UTF-16"),
    "utf-16-bare": ("name: a".encode("utf-16-be"), 1, "U+0000"),
    "latin-1": ("\nreport: {title: é}".encode("latin-1"), 2, "the byte 0xe9"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_refused_with_its_line_soon(name, tmp_path):
    held, line, said = REFUSED[name]
    path = tmp_path / "c.yaml"
    path.write_bytes(held if isinstance(held, bytes) else held.encode())
    with pytest.raises(ConfigError) as e, calls_at_most(2 * 10**6):
        load_config(path)
    assert said in str(e.value)
    assert f"c.yaml, line {line}\n" in str(e.value)


def test_what_is_no_file_of_text_is_refused(tmp_path, capsys):
    with (tmp_path / "large.yaml").open("wb") as f:
        f.truncate(100_000_000)
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to(tmp_path / "none")
    said = {
        "large": f"more than {MAX_BYTES:,} bytes",
        "folder": "this is a folder",
        "link": "a link to",
    }
    for name, message in said.items():
        assert weakseg("compare", tmp_path / f"{name}.yaml") == 2
        err = capsys.readouterr().err
        assert message in err
        assert f"{name}.yaml" in err


TRAPS = [
    ("010", "010"),
    ("007", "007"),
    ("1:30", "1:30"),
    ("1:30.5", "1:30.5"),
    ("2024-05-01", "2024-05-01"),
    ("=", "="),
    ("1e-3", 0.001),
    ("-2.5E+3", -2500.0),
    ("1.", 1.0),
    (".5", 0.5),
    ("0x10", 16),
    ("-3", -3),
    ("0", 0),
    ("1_000", 1000),
    ("yes", True),
    ("off", False),
    ("~", None),
    ("1.2.3", "1.2.3"),
    ("e3", "e3"),
]


@pytest.mark.parametrize(("text", "value"), TRAPS)
def test_words_are_read_as_they_are_meant(text, value):
    assert parse(f"a: {text}") == {"a": value}
    assert type(parse(text)) is type(value)


def test_what_is_written_is_read_as_the_same():
    tree = {"a": [t for t, _ in TRAPS], "b": [v for _, v in TRAPS], "c": {"no": "é", "1": ""}}
    assert parse(dump(tree)) == tree
    config = parse_config({"name": "1e-3", "report": {"title": "010"}})
    assert parse_config(parse(dump_config(config))) == config


def test_a_plain_file_is_read_as_by_yaml_itself():
    for path in sorted((Path(__file__).parents[1] / "configs").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        assert parse(text) == yaml.safe_load(text)


def test_numbers_with_a_zero_before_are_no_octal_ones(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data: {image_size: 0100, healthy_labels: [007]}\nclassifier: {lr: 1e-4}\n")
    config = load_config(path, ["seed=010"])
    assert config.data.image_size == 100
    assert config.data.healthy_labels == ["007"]
    assert config.seed == 10
    assert config.classifier.lr == 1e-4


def test_a_mark_of_utf_8_and_anchors_are_taken(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(
        b"\xef\xbb\xbfsegmenters:\n  one: &one {epochs: 3, augment: {flip: false}}\n"
        b"  two: {<<: *one, epochs: 4}\n  three: *one\n"
    )
    held = load_config(path, ["segmenters.one.augment.flip=true"]).segmenters
    assert [held[n].epochs for n in ("one", "two", "three")] == [3, 4, 3]
    # A --set of one changes no other that has the same anchor.
    assert [held[n].augment.flip for n in ("one", "two", "three")] == [True, False, False]


SETS = {
    "seed=" + "9" * 5000: "a number of 5,000 characters",
    "data={channels: grey, channels: rgb}": "stands twice",
    "data=" + "[" * 3000 + "]" * 3000: "nested more than 30 deep",
    "a=&a [*a]": "stands within itself",
    ".".join("a" * 3000) + "=1": "not of the form",
    "name=\udcff": "no text",
    "name=a\0": "no text",
    "data.manifest=!!python/name:os.system": "is not known",
    "seed=1:30": "seed: input should be a valid integer",
    "name=no": "name: input should be a valid string; put words such as 'no'",
}


@pytest.mark.parametrize("change", SETS, ids=lambda c: ascii(c)[:20])
def test_a_hostile_set_is_refused(change, tmp_path):
    (tmp_path / "c.yaml").write_text("name: a\n")
    with pytest.raises(ConfigError) as e:
        load_config(tmp_path / "c.yaml", [change])
    assert SETS[change] in str(e.value)
    assert len(str(e.value)) < 1000
