from __future__ import annotations

import subprocess

import pytest
from small_corpora import NASTY, pairs, segments_file, tags_file

from rdrop_fairseq.corpus import markup

TALK = [
    ("<url>http://x</url>", None),
    ("text before <talkid>1</talkid>", None),
    ("<keywords>a, b</keywords>", None),
    ("<title>A title</title>", "A title"),
    ("<title></title>", ""),
    ("<description>TED: <i>x</i></description>", "TED: <i>x</i>"),
    ("<speaker>Al Gore</speaker>", "<speaker>Al Gore</speaker>"),
    ("<reviewer></reviewer>", "<reviewer></reviewer>"),
    ("<URL>upper</URL>", "<URL>upper</URL>"),
    (" plain text \r", " plain text \r"),
    ("", ""),
]
SEGMENTS = [
    ('<seg id="1"> one </seg>', "one"),
    ('  <seg id="12">\ttwo</seg> \r', "  two"),
    ('<seg id="3">It’s ‘so’</seg>', "It's ‘so'"),
    ('<seg id="4"></seg>', ""),
    ('<seg id="5" lang="de">five</seg>', '<seg id="5" lang="de">five'),
    ('<seg id="6">a</seg> <seg id="7"> b</seg>', "ab"),
    ('<seg id="8">\u00a0&amp;\u3000</seg>', "\u00a0&amp;"),
    ('<SEG id="9">no</SEG>', None),
    ("<doc>", None),
    ("", None),
]
DROP = " | ".join(f"grep -v '{tag}'" for tag in ("<url>", "<talkid>", "<keywords>"))
STRIP = " | ".join(f"sed -e 's/{tag}//g'" for tag in ("<title>", r"<\/title>", "<description>", r"<\/description>"))
SEGMENT = (
    "grep '<seg id' | sed -e 's/<seg id=\"[0-9]*\">\\s*//g' | sed -e 's/\\s*<\\/seg>\\s*//g' | sed -e \"s/\\’/\\'/g\""
)


def shell(command: str, given: bytes) -> bytes:
    """The tools that the published recipes use, under the locale that they assume."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["bash", "-c", command], input=given, stdout=subprocess.PIPE, env=environment).stdout


def ours(function, given: bytes) -> bytes:
    results = [function(line) for line in given.decode().split("\n")[:-1]]
    return "".join(f"{line}\n" for line in results if line is not None).encode()


@pytest.mark.parametrize(("line", "text"), TALK)
def test_talks_by_hand(line, text):
    assert markup.talk_text(line) == text


@pytest.mark.parametrize(("line", "text"), SEGMENTS)
def test_segments_by_hand(line, text):
    assert markup.segment_text(line) == text


def test_talks_as_grep_and_sed_do():
    sentences = [pair[1] for pair in (*NASTY, *pairs(("de", "en"), 20))] + [line for line, _ in TALK]
    given = tags_file(sentences, per_talk=7)
    expected = shell(f"{DROP} | {STRIP}", given)
    assert expected.count(b"\n") > 40
    assert ours(markup.talk_text, given) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_segments_as_grep_and_sed_do(end):
    given = segments_file([pair[0] for pair in NASTY], end) + "".join(f"{line}\n" for line, _ in SEGMENTS).encode()
    expected = shell(SEGMENT, given)
    assert expected.count(b"\n") == len(NASTY) + 7
    assert ours(markup.segment_text, given) == expected


PEOPLE = ['<reviewer href="x">A B</reviewer>', "<reviewer></reviewer>", "<translator></translator>"]


@pytest.mark.parametrize("line", [*PEOPLE, "<speaker>x</speaker>", '<doc docid="2455" genre="lectures">'])
def test_lines_about_people_and_documents_of_iwslt17_are_dropped(line):
    assert markup.talk_text(line, markup.IWSLT17_DROPPED) is None


def test_a_test_set_of_iwslt17():
    """As in the archives: metadata lines begin with a space, two spaces stand on each side of a segment."""
    people = [" " + line for line in PEOPLE]
    given = ['<doc docid="2455" genre="lectures">', *people, '<seg id="1">  好吧， 我要讲。  </seg>', "</doc>"]
    assert list(filter(None, map(markup.segment_text, given))) == ["好吧， 我要讲。"]
