"""Results as Markdown, in which nothing that a user wrote is markup."""

import pytest

from strata.cluster.report.comparison import Comparison
from strata.cluster.report.markdown import escaped, results, table, write_results
from tests.helpers.comparisons import PLAIN, QUICK


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", r"a\|b"),
        ("*a* `b` <c> [d] $e$ ~f~ &g", r"\*a\* \`b\` \<c\> \[d\] \$e\$ \~f\~ \&g"),
        ("back\\slash", "back\\\\slash"),
        ("method.batch_size", "method.batch_size"),  # within a word an underscore means nothing
        ("_a_ b_ _c", r"\_a\_ b\_ \_c"),
        ("two\n lines\t here ", "two lines here"),
    ],
)
def test_markup_is_escaped(text, written):
    assert escaped(text) == written


def test_a_tables_first_column_is_to_the_left_and_a_pipe_opens_no_column():
    lines = table(["method", "a|b"], [["x", "1"], ["y", "2"]]).splitlines()
    assert lines == ["| method | a\\|b |", "| :-- | --: |", "| x | 1 |", "| y | 2 |"]


@pytest.mark.parametrize(
    ("command", "fence"), [("strata run", "```"), ("a `b`", "```"), ("a ```b``` c", "````"), ("`````", "``````")]
)
def test_a_fence_is_longer_than_what_it_holds(command, fence):
    page = results(Comparison([PLAIN], None, "a_ setting", command))
    assert f"\n{fence}\n{command}\n{fence}\n" in page


def test_a_page_is_setting_command_and_table(tmp_path):
    comparison = Comparison([PLAIN, QUICK], None, "a * setting", "strata compare")
    path = write_results(comparison, tmp_path / "new" / "folder")
    parts = path.read_text(encoding="utf8").split("\n\n")
    assert path.name == "results.md"
    assert parts[:3] == [r"a \* setting", "```\nstrata compare\n```", "After the last round:"]
    assert parts[3].splitlines()[0] == f"| {' | '.join(comparison.headings)} |"
    assert parts[3].splitlines()[2:] == [f"| {' | '.join(row)} |" for row in comparison.rows]
    assert len(parts) == 4  # nobody asked for a target
