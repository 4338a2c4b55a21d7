"""`.env`: what it sets, what is left as it is, and what is an error."""

from pathlib import Path

import pytest

from app.setting_sources import EnvFileError, read_env_file


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAME", "Ada")
    return tmp_path / ".env"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X=${NAME}", "Ada"),
        ('X="${NAME} and ${NONE:-Bob}"', "Ada and Bob"),
        ("X='${NAME}'", "${NAME}"),
        ("export X = 'pa${ss}word'  # secret", "pa${ss}word"),
        ('X=\'{"authorization": "Bearer ${A}$B"}\'', '{"authorization": "Bearer ${A}$B"}'),
        ("X=it's ${NAME}", "it's Ada"),
        ("X=$NAME", "$NAME"),
        ("X=a # b", "a"),
        ("X=", ""),
        ("Y=1\nX=${Y}2", "12"),
        ("NAME=Eve\nX=${NAME}", "Eve"),
        ("Y='${NAME}'\nX=${Y}", "${NAME}"),
    ],
)
def test_a_value_is_read_with_its_quotes_and_variables(file: Path, line: str, value: str) -> None:
    file.write_text(f"# a comment\n\n{line}\n")
    assert read_env_file(file)["X"] == value


def test_a_name_alone_sets_nothing(file: Path) -> None:
    file.write_text("PORT\n")
    assert read_env_file(file) == {}


@pytest.mark.parametrize("line", ["UPSTREAM_URL http://a.test", "=1", "X='no end", "X='a' b"])
def test_a_line_that_cannot_be_read_is_an_error_that_says_which(file: Path, line: str) -> None:
    file.write_text(f"PORT=1\n# more\n{line}\n")
    with pytest.raises(EnvFileError, match=r"^line 3 cannot be read$"):
        read_env_file(file)
