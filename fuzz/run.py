"""Fuzz the readers one after the other, and say how many inputs each was given:  python fuzz/run.py [TARGETS]."""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Run the targets; 1 if something was found."""
    from seeds import make_seeds
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="which; all unless given")
    parser.add_argument("--runs", type=int, default=20_000, help="inputs a target")
    parser.add_argument("--seconds", type=int, default=600, help="most seconds a target")
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="where inputs and findings are kept")
    given = parser.parse_args()
    total, findings = 0, []
    print(f"{'reader':<14} {'inputs':>9} {'seconds':>8}  finding", flush=True)
    for name in given.targets or TARGETS:
        corpus = given.out / "corpus" / name
        corpus.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(make_seeds(name)):
            (corpus / f"seed-{number}").write_bytes(content)
        flags = [
            f"-runs={given.runs}", f"-max_total_time={given.seconds}", "-max_len=8192", "-timeout=10",
            "-rss_limit_mb=0", f"-artifact_prefix={given.out}/{name}-", "-print_final_stats=1", str(corpus),
        ]  # fmt: skip
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(HERE / "one.py"), name, *flags], capture_output=True, text=True, errors="replace"
        )
        counted = re.findall(r"number_of_executed_units: (\d+)|Done (\d+) runs", done.stderr)
        count = max((int(a or b) for a, b in counted), default=0)
        total += count
        finding = ""
        if done.returncode != 0:
            (given.out / f"{name}.log").write_text(done.stdout + done.stderr)
            findings.append(name)
            finding = f"see {given.out / name}.log"
        print(f"{name:<14} {count:>9,} {time.monotonic() - began:>8.1f}  {finding}", flush=True)
    print(f"{'all':<14} {total:>9,}           {', '.join(findings) or 'none'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
