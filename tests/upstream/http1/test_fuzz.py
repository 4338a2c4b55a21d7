from tests.upstream.http1.fuzz import fuzz


def test_a_bounded_fuzz_run_finds_no_hang_no_crash_and_no_foreign_byte() -> None:
    """`python -m tests.upstream.http1.fuzz` is the unbounded one."""
    counts = fuzz(streams=2000, seed=7)
    assert counts["good: answered"] > 500
    assert counts["mutated: RemoteProtocolError"] > 200
