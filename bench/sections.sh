# The sections of bench/RESULTS.md; read by bench/run.sh, which explains the names used here.

# 4 minutes
run_gemm() {
	build ops bench/ops
	peers=numpy
	! has torch || peers=numpy,torch
	gopeers=
	if (cd bench/_gopeers && CGO_ENABLED=0 go build -o "$tmp/gopeers" .); then gopeers=$tmp/gopeers; fi
	{
		cat <<-'EOF'
			Float32 products, out-channels x pixels x K; ours with weights packed before, as in a network. A peer gets plain
			operands in whichever order suits it best. Columns peer/ours are its time divided by ours: above 1 we are faster.
			Medians over the rounds, best in parentheses; "of peak" is against a register-only multiply-add loop timed in the same turns,
			with as many threads. After a turn of several threads of a peer, nobody starts before they sleep.

		EOF
		"$tmp/ops" -kind gemm -threads "$THREADS" -rounds $rounds -python "$PYTHON" -peers $peers -gopeers "$gopeers"
		printf '\nThe same with AVX2 only, for us, OpenBLAS and torch (oneDNN):\n\n'
		"$tmp/ops" -kind gemm -threads 1 -isa avx2 -rounds $rounds -python "$PYTHON" -peers $peers
	} >"$tmp/body"
	section gemm "Matrix products" numpy torch <"$tmp/body"
}

# 2 minutes
run_conv() {
	build ops bench/ops
	{
		cat <<-'EOF'
			One float32 convolution with bias and clamp to [0, 6], 224-pixel networks' shapes, padding included; ONNX Runtime on a model of that
			one operator. "ort/ours" is its whole run, with its own copies into and out of a blocked layout; "ort op/ours" the
			operator alone, from its profile (one thread only). Above 1 we are faster. Medians, best in parentheses.
			3x3 with stride 1 is computed by Winograd's algorithm, with 4/9 of the multiplications (more where tiles are cut); MFLOP
			counts those of the direct sums, so that "of peak" may be above 1.

		EOF
		"$tmp/ops" -kind conv -threads "$THREADS" -rounds $rounds -python "$PYTHON"
	} >"$tmp/body"
	section conv "Convolutions" onnxruntime <"$tmp/body"
}

# 4 minutes
run_models() {
	build models bench/models
	{
		printf 'Whole float32 networks next to ONNX Runtime, in turns; ms per image; ratio is our time divided by its: below 1 we are faster.\n\n```\n'
		for t in $(echo "$THREADS" | tr , ' '); do
			for b in 1 32; do
				n=$((b == 1 ? 4 * rounds : rounds))
				"$tmp/models" -batch $b -threads "$t" -rounds $n -each $((b == 1 ? 5 : 1)) -python "$PYTHON" "$shared/models/mobilenet_v2.onnx" "$shared/models/resnet18_random.onnx"
			done
		done
		printf '```\n\nAVX2 only, one thread (ONNX Runtime cannot be restricted, and keeps its AVX-512):\n\n```\n'
		ROUNDEL_ISA=avx2 "$tmp/models" -batch 1 -threads 1 -rounds $((2 * rounds)) -python "$PYTHON" "$shared/models/mobilenet_v2.onnx" "$shared/models/resnet18_random.onnx"
		printf '```\n'
	} >"$tmp/body"
	section models "Whole networks" onnxruntime <"$tmp/body"
}

# prepare_aimet makes the models and arrays that both tools are given, once.
prepare_aimet() {
	build adaround bench/adaround
	[ ! -f "$BENCH_OUT/ready$samples" ] || return 0
	pre='-preprocess unit,mean=0.2860,std=0.3530'
	for m in fashion_mobilenet fashion_resnet mobilenet_v2; do "$tmp/adaround" fold "$shared/models/$m.onnx" "$BENCH_OUT/$m.onnx"; done
	train=$shared/data/fashion-mnist/train-images-idx3-ubyte.gz
	"$tmp/adaround" data $pre -count "$samples" "$train" "$BENCH_OUT/fashion_calib.npy"
	"$tmp/adaround" data $pre -from 1024 -count "$samples" "$train" "$BENCH_OUT/fashion_test.npy"
	"$tmp/adaround" data $pre "$shared/data/fashion-mnist/t10k-images-idx3-ubyte.gz" "$BENCH_OUT/fashion_eval.npy"
	"$tmp/adaround" data -count $((samples / 4)) "$photos" "$BENCH_OUT/photos_calib.npy"
	"$tmp/adaround" data -from 128 -count $((samples / 4)) "$photos" "$BENCH_OUT/photos_test.npy"
	for n in 3 8 15; do # one inverted residual block each: expansion, depthwise, projection
		"$PYTHON" bench/peers/cut.py "$BENCH_OUT/mobilenet_v2.onnx" "/features/features.$((n - 1))/conv/conv.2/Conv_output_0" "/features/features.$n/conv/conv.2/Conv_output_0" \
			"$BENCH_OUT/mnv2_block$n.onnx" "$BENCH_OUT/photos_calib.npy" "$BENCH_OUT/mnv2_block${n}_calib.npy" "$BENCH_OUT/photos_test.npy" "$BENCH_OUT/mnv2_block${n}_test.npy"
	done
	rm -f "$BENCH_OUT/photos_calib.npy" "$BENCH_OUT/photos_test.npy"
	touch "$BENCH_OUT/ready$samples"
}

# data_of MODEL KIND is the array of that kind (calib, test, eval) for the model.
data_of() {
	case $1 in
	fashion_*) echo "$BENCH_OUT/fashion_$2.npy" ;;
	*) [ "$2" != eval ] || set -- "$1" test; echo "$BENCH_OUT/$1_$2.npy" ;;
	esac
}

# 10 minutes: AIMET at two counts of iterations, ours to the end, both with one thread.
run_adaround() {
	has aimet_onnx torch || { echo "adaround: no AIMET; sh bench/peers/venv.sh aimet" >&2; return 1; }
	prepare_aimet
	set --
	for m in fashion_mobilenet fashion_resnet mnv2_block8 mnv2_block15 mnv2_block3; do
		"$PYTHON" bench/peers/aimet_adaround.py --model "$BENCH_OUT/$m.onnx" --calib "$(data_of $m calib)" --bits 4 --time $aimet_counts --out "$tmp/times_$m" >"$tmp/log" 2>&1 || { tail -20 "$tmp/log" >&2; return 1; }
		"$tmp/adaround" network -model "$BENCH_OUT/$m.onnx" -calib "$(data_of $m calib)" -eval "$(data_of $m eval)" -bits 4 -iterations $adam_iterations \
			-threads 1 -times "$tmp/times_$m/times.json" -o "$tmp/$m.json"
		set -- "$@" "$tmp/$m.json"
	done
	{
		cat <<-'EOF'
			AIMET's apply_adaround and ours, one thread each, on the same folded networks and the same samples (512 Fashion-MNIST images; 128
			photos for three inverted residual blocks cut out of MobileNetV2, named after their number). AIMET runs two short counts of iterations;
			the line through both gives its time of one iteration and its fixed time (sessions, sampled activations). Ours runs all iterations.
		EOF
		"$tmp/adaround" table -times "$@"
	} >"$tmp/body"
	section adaround "AdaRound: time next to AIMET" aimet-onnx torch <"$tmp/body"
}

# Hours: AIMET to the end. What it rounded stays in $BENCH_OUT/aimet; repeated, only our side is run again.
run_losses() {
	prepare_aimet
	set --
	for spec in $LOSSES; do
		m=${spec%%:*} bits=${spec#*:} iterations=${spec##*:}
		bits=${bits%%:*}
		dir=$BENCH_OUT/aimet/${m}_w${bits}_$iterations
		[ -f "$dir/layers.json" ] || "$PYTHON" bench/peers/aimet_adaround.py --model "$BENCH_OUT/$m.onnx" --calib "$(data_of "$m" calib)" --bits "$bits" --iterations "$iterations" --out "$dir"
		"$tmp/adaround" compare -model "$BENCH_OUT/$m.onnx" -calib "$(data_of "$m" calib)" -test "$(data_of "$m" test)" -aimet "$dir" -threads "$(cpus)" -o "$tmp/${m}_${bits}_$iterations.compare"
		set -- "$@" "$tmp/${m}_${bits}_$iterations.compare"
		case $m in fashion_*)
			"$tmp/adaround" network -model "$BENCH_OUT/$m.onnx" -calib "$(data_of "$m" calib)" -eval "$(data_of "$m" eval)" -aimet "$dir" -threads "$(cpus)" -o "$tmp/${m}_${bits}_$iterations.network"
			set -- "$@" "$tmp/${m}_${bits}_$iterations.network" ;;
		esac
	done
	{
		cat <<-'EOF'
			AIMET's apply_adaround run to the end, and ours with as many iterations, the same grids, samples and float targets. Layer by layer, both are given
			the inputs that the network has with AIMET's weights up to there; the loss (mean over positions of the squared error after the
			activation, summed over outputs) is taken on other samples, by code that belongs to neither. The whole networks below are rounded by each tool on
			its own; accuracy on the 10,000 labelled test images, SQNR of the logits, activations in float.

		EOF
		"$tmp/adaround" table -brief "$@"
		"$tmp/adaround" table "$@"
	} >"$tmp/body"
	section losses "AdaRound: losses and accuracy next to AIMET" aimet-onnx torch <"$tmp/body"
}

# whole runs the binary: whole MODEL FLAGS EVALUATION 'NAME: FLAGS'...
whole() {
	model=$1 flags=$2 eval=$3
	shift 3
	"$tmp/adaround" runs -roundel "$tmp/roundel" -model "$model" -calib "$photos" -eval "$eval" -flags "$flags" "$@"
}

# 6 minutes
run_mobilenet() {
	build roundel cmd/roundel
	build adaround bench/adaround
	m=$shared/models/mobilenet_v2.onnx
	{
		printf 'Whole runs of `roundel adaround` on %s photos, W4 per channel, float activations; agreement and SQNR with the float network on photos-eval.\nPeak size as `time -v` shows it.\n\n' "$samples"
		whole "$m" "--samples $samples" "$shared/data/photos-eval" "MobileNetV2, fast, $(cpus) threads: --threads $(cpus)" "MobileNetV2, fast, 1 thread: --threads 1"
		printf '\n'
		whole "$shared/models/resnet18_random.onnx" "--samples $samples" "" "ResNet18 (random weights), fast, $(cpus) threads: --threads $(cpus)"
	} >"$tmp/body"
	section mobilenet "Whole runs on photos" <"$tmp/body"
}

# An hour or more
run_mobilenet_adam() {
	build roundel cmd/roundel
	build adaround bench/adaround
	adam="--solver adam --iterations $((adam_iterations * 3 / 2)) --threads $(cpus)"
	{
		printf 'As "Whole runs on photos", %s photos.\n\n' "$samples"
		whole "$shared/models/mobilenet_v2.onnx" "--samples $samples" "$shared/data/photos-eval" "fast: --threads $(cpus)" "adam, lr 1e-3: $adam --lr 1e-3" "adam, lr 1e-2: $adam --lr 1e-2"
	} >"$tmp/body"
	section mobilenet-adam "The two solvers on MobileNetV2" <"$tmp/body"
}

# 7 minutes
run_scaling() {
	build roundel cmd/roundel
	build adaround bench/adaround
	m=$shared/models/mobilenet_v2.onnx
	t=$(cpus)
	{
		printf 'Whole runs of `roundel adaround` on MobileNetV2, W4, fast solver, one thing varied at a time.\n\n'
		if [ -n "${QUICK:-}" ]; then
			whole "$m" "--threads $t --samples 16" "" "4096 positions: --positions 4096"
			"$tmp/adaround" layers -threads "$t" -iterations 10 -largest 144
		else
			whole "$m" "--threads $t" "" "64 images: --samples 64" "128 images: --samples 128" "256 images: --samples 256" "512 images: --samples 512"
			printf '\n'
			whole "$m" "--threads $t --samples 128" "" "4096 positions: --positions 4096" "8192 positions: --positions 8192" "16384 positions: --positions 16384" "32768 positions: --positions 32768"
			printf '\n'
			whole "$m" "--samples 128" "" "1 thread: --threads 1" "$t threads: --threads $t"
			printf '\n'
			whole "$m" "--threads $t --samples 128" "" "512 MiB allowed: --mem 512M" "1 GiB allowed: --mem 1G" "4 GiB allowed: --mem 4G"
			printf '\nSingle layers of made-up data with ReLU, W4:\n\n'
			"$tmp/adaround" layers -threads "$t" -iterations 200
		fi
	} >"$tmp/body"
	section scaling "Scaling" <"$tmp/body"
}

# 3 minutes
run_cost() {
	build interop bench/interop
	n=$((rounds < 3 ? rounds : 3))
	case=mobilenet_v2-w8a8
	cost() { # THREADS PHOTOS SCHEME
		"$tmp/interop" -shared "$shared" -out "$tmp/cost" -only $case -exact-name -rounds "$n" -workers "$1" -calib "$2" -scheme "$3" -keep-calib |
			sed "s/^[^ ]* */$1 threads, $2 photos, $3: /"
	}
	{
		cat <<-'EOF'
			MobileNetV2, W8A8, per-channel weights, calibrated in batches of 16 photos, simulated on 128: multiples of the time of the float network on
			the same photos with as many threads, medians of turns. Calibration is all of `ComputeEncodings`: with 3.5 million weights, which take
			the same time however many photos follow, and with the first batch twice, to fix the bins. Wanted: simulation 1.3, calibration with tf_enhanced 2.

		EOF
		echo '```'
		for t in $(echo "$THREADS" | tr , ' '); do
			cost "$t" 512 tf
			cost "$t" 512 tf_enhanced
		done
		rm -rf "$tmp/cost"
		cost "$(cpus)" 64 tf_enhanced
		if has aimet_onnx; then
			"$PYTHON" bench/peers/aimet_cost.py "$tmp/cost/$case" "$(cpus)" 2>/dev/null | grep '^AIMET'
		fi
		echo '```'
	} >"$tmp/body"
	section cost "Cost of simulation and calibration" aimet-onnx onnxruntime <"$tmp/body"
}

# 15 minutes; no times are taken, so that the machine may be busy
run_prepare() {
	build roundel cmd/roundel
	{
		cat <<-'EOF'
			Each rewrite switched off or on alone, `roundel quantize` with 64 calibration samples and 1000 positions (200 for mobilenet_v2_bn). Accuracy on
			the 10,000 labelled test images, agreement with the float network on the 128 photos of photos-eval, which nothing was calibrated
			on; SQNR of the logits. "Nearest" and "AdaRound" have float activations and are against the network as rewritten; the last
			column is against the network of the file, nothing rewritten. "Nothing to do": the network has no such nodes.

		EOF
		ROUNDEL="$tmp/roundel" sh bench/prepare.sh "$shared"
	} >"$tmp/body"
	section prepare "Rewrites before quantization" <"$tmp/body"
}
