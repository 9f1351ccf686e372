"""Sentences, summaries and the token rule, without a server."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_provider import engine, text, tokens


def test_sentences_end_at_full_stops_but_not_at_abbreviations():
    assert text.sentences("Dr. Hall came at 5 p.m. and left. Why? He had to, e.g. for the train. J. Smith stayed.") == [
        "Dr. Hall came at 5 p.m. and left.",
        "Why?",
        "He had to, e.g. for the train.",
        "J. Smith stayed.",
    ]


def test_sentences_may_run_over_lines_and_end_at_paragraphs():
    assert text.sentences("One sentence\nover lines. And\n\nthe next\n- first item\n- second item") == [
        "One sentence over lines.",
        "And",
        "the next",
        "first item",
        "second item",
    ]


def test_sentences_of_languages_without_spaces_are_found():
    assert text.sentences("今日は晴れです。明日は雨でしょう。") == ["今日は晴れです。", "明日は雨でしょう。"]


@given(st.text(max_size=2_000))
def test_sentences_never_invent_anything(any_text):
    flat = " ".join(any_text.split())
    for sentence in text.sentences(any_text):
        assert 0 < len(sentence) <= text.MAX_SENTENCE_CHARS
        assert set(sentence) <= set(flat)


@given(st.text(max_size=2_000), st.text(max_size=100))
def test_any_text_can_be_summarised(any_text, instructions):
    assert engine.summarise(any_text, instructions)


@pytest.mark.parametrize("scrap", [".", "a", "\n", " .", "1. ", "'a", "「。", "x ", "A. "])
def test_hostile_text_takes_no_longer_than_others(scrap, benchmark_seconds):
    assert benchmark_seconds(lambda: engine.summarise(scrap * 100_000, "")) < 2


def test_sixty_kilobytes_are_summarised_in_a_moment(article, benchmark_seconds):
    words = article.split()
    lines = [" ".join(words[n % 90 :] + words[: n % 70]) + f" End of part {n}.\n\n" for n in range(200)]
    long = "".join(lines)[:60_000]
    assert len(long) == 60_000
    assert benchmark_seconds(lambda: engine.summarise(long, "in 8 bullets")) < 0.5


@pytest.mark.parametrize(
    ("instructions", "count"),
    [
        ("Give me 3 bullets.", 3),
        ("exactly 4 bullet points", 4),
        ("5 concise bullets", 5),
        ("as bullets", 5),
        ("1 bullet", 1),
    ],
)
def test_number_before_the_word_bullets_is_obeyed(article, instructions, count):
    assert engine.summarise(article, instructions).count("\n- ") == count


def test_text_without_letters_is_answered_too():
    assert engine.summarise("", "") == engine.NOTHING_TO_READ
    assert engine.summarise("123 456", "") == "123 456"


def test_summary_needs_no_network(article, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the engine wanted the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr("nltk.data.find", refuse)
    assert engine.summarise(article, "in 3 bullets")


@pytest.mark.parametrize(
    ("some_text", "count"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("äöü", 2), ("日本", 2)]
)
def test_token_is_four_bytes_of_utf8(some_text, count):
    assert tokens.count_text(some_text) == count


@given(st.text(), st.integers(0, 100))
def test_cut_text_fits_the_limit(some_text, limit):
    cut = tokens.cut_text(some_text, limit)
    assert some_text.startswith(cut)
    assert tokens.count_text(cut) <= limit


def test_input_tokens_follow_the_rule_in_the_readme(browser):
    body = {"model": "gpt-4.1", "instructions": "abcd", "input": "abcdefgh"}
    usage = browser.post("/v1/responses", json=body).json["usage"]
    assert usage["input_tokens"] == 3 + (4 + 1) + (4 + 2)
    assert usage["output_tokens"] == 2


def test_reasoning_takes_at_most_half_of_the_limit(browser):
    body = {"model": "gpt-6-luna", "input": "a b c d. " * 50, "max_output_tokens": 20}
    usage = browser.post("/v1/responses", json={**body, "reasoning": {"effort": "max"}}).json["usage"]
    assert usage["output_tokens_details"]["reasoning_tokens"] == 10
    assert usage["output_tokens"] == 20
