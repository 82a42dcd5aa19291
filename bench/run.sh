#!/bin/sh
# Benchmarks against peers, each section of bench/RESULTS.md on its own:
#
#   sh bench/run.sh [SECTION...]       gemm conv models adaround mobilenet scaling; none: all of these, 30 minutes idle
#   sh bench/run.sh cost               simulation and calibration next to the float network, and AIMET's: 3 minutes
#   sh bench/run.sh prepare            each rewrite before quantization on and off: 15 minutes, idle or not
#   sh bench/run.sh losses             AIMET to the end, with equal iterations: hours; kept in bench/out, continued when repeated
#   sh bench/run.sh mobilenet-adam     the paper's optimiser on MobileNetV2, two learning rates: an hour
#
# Beforehand: sh bench/peers/venv.sh torch aimet (gemm and conv do with less). On a busy machine only ratios mean anything.
#
#   PYTHON=...        python with the peers              BENCH_OUT=...        folder for what is kept
#   THREADS=1,2       numbers of threads                 ROUNDEL_SHARED=...   models and data, ../shared
#   QUICK=1           few rounds, to see that it works   RESULTS=...          file to write, bench/RESULTS.md
#   LOSSES="fashion_mobilenet:4:10000 ..."               model:bits:iterations of losses
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-bench/peers/venv/bin/python}
BENCH_OUT=${BENCH_OUT:-bench/out}
RESULTS=${RESULTS:-bench/RESULTS.md}
THREADS=${THREADS:-1,2}
LOSSES=${LOSSES:-fashion_mobilenet:4:10000 fashion_resnet:4:10000 fashion_mobilenet:4:2000 fashion_resnet:4:2000 fashion_mobilenet:3:2000 fashion_resnet:3:2000 fashion_mobilenet:2:2000 fashion_resnet:2:2000 mnv2_block8:4:2000 mnv2_block15:4:2000 mnv2_block3:4:2000}
shared=${ROUNDEL_SHARED:-../shared}
photos="$shared/data/photos-calib"
rounds=15
adam_iterations=10000
aimet_counts=20,120
samples=512
if [ -n "${QUICK:-}" ]; then
	rounds=2 adam_iterations=100 aimet_counts=2,6 samples=16
fi
# A low OPENBLAS_CORETYPE in the environment would cripple numpy.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE 2>/dev/null || true
mkdir -p "$BENCH_OUT"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

build() { CGO_ENABLED=0 go build -o "$tmp/$1" "./$2"; }
has() { "$PYTHON" -c "import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in sys.argv[1:]))" "$@" 2>/dev/null; }
cpus() { echo "$THREADS" | tr , '\n' | sort -n | tail -1; }

# machine prints what the figures of a section depend on.
machine() {
	cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -1)
	ids=$(sed -n 's/^\(cpu family\|model\)[[:space:]]*: \(.*\)/\1 \2/p' /proc/cpuinfo 2>/dev/null | head -2 | paste -sd' ' -)
	flags=$(sed -n 's/^flags[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -1 | tr ' ' '\n' | grep -E '^(fma|avx2|avx_vnni|avx512(f|_vnni|_bf16)|amx_int8)$' | paste -sd' ' -)
	echo "$(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), ${cpu:-$(uname -m)} ($ids; ${flags:-}), $(nproc 2>/dev/null || echo '?') CPUs, load $load before and $(load) after; $(go version | cut -d' ' -f3)$(versions "$@")."
}
load() { cut -d' ' -f1 /proc/loadavg 2>/dev/null || echo '?'; }
versions() {
	[ $# -eq 0 ] || "$PYTHON" - "$@" <<-'EOF'
		import importlib.metadata as m, sys
		for name in sys.argv[1:]:
		    try:
		        print(f", {name} {m.version(name)}", end="")
		    except m.PackageNotFoundError:
		        pass
	EOF
}

# section NAME TITLE PACKAGES... replaces the section NAME of the results by standard input, or appends it.
section() {
	name=$1 title=$2
	shift 2
	[ -f "$RESULTS" ] || printf '# Results\n\nMade by `sh bench/run.sh`; each section by the command under its title. Ratios are of one run on one machine.\n' >"$RESULTS"
	{
		printf '<!-- section %s -->\n## %s\n\n`sh bench/run.sh %s`\n\n' "$name" "$title" "$name"
		machine "$@"
		echo
		cat
		printf '<!-- end %s -->\n' "$name"
	} >"$tmp/section"
	if grep -q "^<!-- section $name -->" "$RESULTS"; then
		awk -v name="$name" -v file="$tmp/section" '
			$0 == "<!-- section " name " -->" { while ((getline line < file) > 0) print line; skip = 1 }
			!skip { print }
			$0 == "<!-- end " name " -->" { skip = 0 }' "$RESULTS" >"$tmp/results"
		cat "$tmp/results" >"$RESULTS"
	else
		{ echo; cat "$tmp/section"; } >>"$RESULTS"
	fi
	echo "wrote section $name of $RESULTS"
}

. bench/sections.sh

[ $# -gt 0 ] || set -- gemm conv models adaround mobilenet scaling
for s in "$@"; do
	case $s in
	gemm | conv | models | adaround | mobilenet | scaling | losses | cost | prepare) run=run_$s ;;
	mobilenet-adam) run=run_mobilenet_adam ;;
	*) echo "run.sh: no section $s; see the head of bench/run.sh" >&2; exit 2 ;;
	esac
	load=$(load)
	echo "== $s" >&2
	$run
done
