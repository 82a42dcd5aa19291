"""Write the tables of RESULTS.md from a folder of results: measure.json of each case, ort.json, aimet.json and values.json.

    table.py FOLDER > bench/interop/RESULTS.md
"""
import json
import pathlib
import sys


def db(x):
    return "identical" if x == float("inf") or x is None else f"{float(x):.1f} dB"


def short(ort):
    """Every export against what we compute for it, as the issue asks: the same top-1 class of all images, and 40 dB at least."""
    rows = []
    for r in ort:
        w = r.get("integer") or {"same_top1": r["same_top1"], "sqnr": r["sqnr_qdq_sim"], "identical": r["identical"]}
        rows.append((r["case"], "integer" if r.get("integer") else "float", w))
    met = sum(w["same_top1"] == 1 and float(w["sqnr"] or "inf") >= 40 for _, _, w in rows)
    same = sum(float(w["sqnr"] or "inf") == float("inf") for _, _, w in rows)
    print("## In short\n")
    print(f"Wanted of ONNX Runtime and us on each export: the same top-1 class of all images, and 40 dB. **{met} of {len(rows)} exports**")
    print(f"have both, {same} of them with identical outputs. With 8-bit activations ONNX Runtime runs its integer kernels, and we the same")
    print("simulation in whole numbers (`quantsim/integer`, `roundel eval --integer`); 16-bit activations have no integer kernels, both")
    print("compute in float. The float simulation of 8-bit activations does not get there, nor does ONNX Runtime against itself: see below.\n")
    print("| case | kernels | same top-1 | SQNR | identical outputs |")
    print("|---|---|---|---|---|")
    for case, kernels, w in rows:
        print(f"| {case} | {kernels} | {w['same_top1']:.1%} | {db(w['sqnr'])} | {w['identical']:.2%} |")


SAME_VALUES = """
## AIMET 2.42: encodings of the same values

`interop -values` writes float activations (two batches of two images) with our encodings; AIMET's quantizers get the same arrays
(`aimet_values.py`). Equal: scale to 1e-5 and the same offset, that is the same candidate of tf_enhanced.

| network | bits | grid | scheme | tensors | equal | equal in every bit of float32 |
|---|---|---|---|---|---|---|"""


def same_values(values):
    print(SAME_VALUES)
    total = {}
    for c in values:
        for r in c["results"]:
            grid, scheme = "symmetric" if r["symmetric"] else "asymmetric", r["scheme"]
            print(f"| {c['case'].removesuffix('-w8a8')} | {r['bits']} | {grid} | {scheme} | {r['tensors']} | {r['equal']} | {r['float32']} |")
            n = total.setdefault(scheme, [0, 0])
            n[0], n[1] = n[0] + r["tensors"], n[1] + r["equal"]
    print("\nTogether: " + "; ".join(f"{k} {e} of {n} ({e / n:.2%})" for k, (n, e) in total.items()) + ". The others, each with its cause:\n")
    print("| network | tensor | bits, grid | our scale | AIMET's | its cost over ours | cause |")
    print("|---|---|---|---|---|---|---|")
    for c in values:
        for r in c["results"]:
            for m in r["misses"]:
                ratio = m["costs"][1] / m["costs"][0]
                other = any(x["other_bin"] for q in c["results"] for x in q["misses"] if x["tensor"] == m["tensor"])
                print(f"| {c['case'].removesuffix('-w8a8')} | {m['tensor']} | {r['bits']}, {'symmetric' if r['symmetric'] else 'asymmetric'} | {m['ours'][0]:.6g} |"
                      f" {m['theirs'][0]:.6g} | {ratio:.4f} | {'the largest value lies in another bin' if other else 'two candidates of nearly the same cost'} |")
    print("""
The largest value of a tensor without negative ones lies on the edge between two bins, and the last bit of a product decides: of 702 random
maxima 691 lie where ours does. All that differ are ties in the rounding of 3 (max - min); what AIMET does with those we could not find out.
Near ties: by the cost of the specification ours is at most 1 % from AIMET's choice; it computes something in another order or precision
there (a dozen variants of the formula were tried; none explains all). `TestGoldenCalibration`: of 1255 tf_enhanced encodings 1239 equal,
15 are strict grids of all-zero tensors (RATIONALE.md), 1 is a near tie (cost ratio 1.003); of 1385 min-max ones 1384 equal to the last bit, and one is
PyTorch's 16-bit offset, which it divides in float32, one apart.""")


IN_NETWORK = """
## AIMET 2.42: networks

AIMET calibrates the same model with the same 64 images. Weights are the same data, and so are their scales. Activations are not: AIMET
adds the offset before it rounds, in float32, so a few weights near a tie get another code (24 of 3,469,760 in MobileNetV2), which moves ranges
behind them (different, worst relative; for tf_enhanced, cases w4a8: within 10 %). With the weights on their grid beforehand, where there is nothing to
round, all min-max ranges are equal to 1e-5, the order of float32 sums. With tf_enhanced the last bit of the first batch's maximum decides which
of two bins it is in (see above), so that other last bits move the range by 1/512 here and there.

Then outputs: our file in AIMET and AIMET's in ours, against the simulation that wrote it; all three versions give AIMET the same grids. In the cases called exact, where the order of sums and ties have no say, all outputs are equal in every bit:
what lies between the two elsewhere is that order, and ties.

| case | images | weight scales, equal in every bit | activations, equal | within 10 % | different, worst | either with weights on the grid, worst | ours in AIMET | AIMET's in ours | same top-1 |
|---|---|---|---|---|---|---|---|---|---|"""


def network_misses(aimet):
    """Every tf_enhanced encoding that is not equal, with its cause."""
    count = {"weights": [0, 0], "activations": [0, 0]}
    for name, r in aimet.items():
        if "w4a8" in name:
            for kind, n in count.items():
                e = r["encodings"][kind]
                n[0] += e["equal"] + e["other_candidate"] + e["different"]
                n[1] += e["equal"]
            count["activations"][1] += sum(abs(m[2] / m[4] - 1) < 1e-3 for m in r["encodings"]["misses"])
    print("\nThe same candidate of tf_enhanced (to 1e-3) in the networks: " + ", ".join(f"{e} of {n} scales of {k}" for k, (n, e) in count.items())
          + f" ({count['activations'][1] / count['activations'][0]:.1%}). All encodings that are not equal:\n")
    print("| case | tensor | our scale | AIMET's | relative | cause |")
    print("|---|---|---|---|---|---|")
    for name, r in aimet.items():
        e = r.get("encodings")
        if not e or "w4a8" not in name:
            continue
        moved = {m[0] for m in e["misses"]} - {m[0] for m in r["encodings_on_grid"]["misses"]}
        for m in e["misses"]:
            off = m[2] / m[4] - 1
            bins = abs(off) > 1e-3  # a bin is 1/512 of the range
            cause = ("the largest value lies in the next bin" if min(abs(m[2] / m[4] - q) for q in (511 / 512, 512 / 511)) < 1e-5 else
                     "the largest value lies in the next bin, and the next candidate won") if bins else "a weight's code moved the range" + (": equal with weights on their grid" if m[0] in moved else "")
            print(f"| {name} | {m[0]} | {m[2]:.6g} | {m[4]:.6g} | {off:.1e} | {cause} |")


def aimet_tables(aimet, values):
    if values:
        same_values(values)
    print(IN_NETWORK)
    for name, r in aimet.items():
        def all_versions(kind):
            v = [db(r[f"{kind}_{x}"]["sqnr"]) for x in ("0.6.1", "1.0.0", "2.0.0")]
            return v[0] if len(set(v)) == 1 else ", ".join(v)

        columns = ["-"] * 5
        if "encodings" in r:
            e, g = r["encodings"], r.get("encodings_on_grid")
            w, a = e["weights"], e["activations"]
            columns = [f"{w['equal'] + w['other_candidate'] + w['different']}, {w['equal'] if w['equal'] == w['float32_equal'] else str(w['equal']) + ' to 1e-5'}",
                       f"{a['tensors']}, {a['equal']}", str(a["other_candidate"]), f"{a['different']}, {e['worst']:.0e}" if a["different"] else "0",
                       f"{g['activations']['different'] + g['activations']['other_candidate']}" + (f", {g['worst']:.0e}" if g["worst"] else "")]
        print(f"| {name} | {r['images']} | {' | '.join(columns)} | {all_versions('ours_in_theirs')} | {all_versions('theirs_in_ours')} | {r['ours_in_theirs_1.0.0']['same_top1']:.1%} |")
    network_misses(aimet)
    print("""
Placement: `python placement.py quantsim/testdata/placement` writes where AIMET puts its quantizers in 18 graphs under its default and HTP configs and four of
our own; `TestPlacement` finds the same, with scales after one batch, and `TestGoldenPlacement` does in the five graphs of ../shared (residual,
depthwise with ReLU6, concat with pooling, transposed convolution, attention).

Commands, in a Python with aimet-onnx 2.42 and onnxruntime: `go build -o interop ./bench/interop`; `./interop -out F -keep-calib`;
`qdq_ort.py F --json F/ort.json`; `aimet.py F ./interop --json F/aimet.json`, `--images 32` for the large networks; `./interop -base F/CASE/net.onnx -values
F/CASE/values` for each CASE of w8a8 and `aimet_values.py F/*-w8a8/values --json F/values.json`; `table.py F > RESULTS.md`.""")


def main():
    folder = pathlib.Path(sys.argv[1])
    ort = json.loads((folder / "ort.json").read_text())
    aimet = {r["case"]: r for r in json.loads((folder / "aimet.json").read_text())} if (folder / "aimet.json").exists() else {}
    print("# Interoperation\n")
    print("Written by `table.py`. Each case: 64 calibration images, 128 evaluation images (all of `photos-eval` for MobileNetV2 and")
    print("ResNet18).\n")
    short(ort)
    print("\n## QDQ exports in ONNX Runtime's integer kernels\n")
    print("A device computes in whole numbers; ONNX Runtime does with its graph optimisation (QLinearConv, QGemm, QLinearAdd ...), and so does")
    print("`quantsim/integer`, on our own kernels. 4-bit weights lie in 8-bit containers here, for which ONNX Runtime has such kernels.\n")
    print("Operators without integer kernels compute in float on both sides, between codes. So does BatchNormalization, which the Fashion")
    print("networks keep here: there a value next to a tie may go the other way. Seen once, in an earlier calibration of fashion_resnet-w8a8:")
    print("one of 401,408 outputs of f.2.b1, the first difference between the two, made one of 1280 logits differ by a step (64.6 dB).\n")
    print("The figures are above; here how far our float simulation is from our integer form.\n")
    print("| case | float simulation, integer form |")
    print("|---|---|")
    for r in ort:
        if w := r.get("integer"):
            print(f"| {r['case']} | {db(w['sqnr_sim'])} |")
    print("\n## QDQ exports in ONNX Runtime without graph optimisation\n")
    print("It then computes in float between the pairs, like our simulation. Two float simulations of one network differ where a sum lies so")
    print("close to a tie that the order of its terms decides; each such value moves by one step, and the layers behind amplify it. Proof:")
    print("in the cases called exact every scale is a power of two, so that float32 sums are exact in any order, and no sum is a tie (`power.go`).")
    print("Nothing else changes, and the two agree in every bit of every output. The column \"ORT, ORT\" is the same file")
    print("with and without optimisation, two orders of sums.\n")
    print("| case | same top-1 | QDQ in ORT, our simulation | identical outputs | ORT, ORT | same top-1 | simulation, float | size |")
    print("|---|---|---|---|---|---|---|---|")
    for r in ort:
        print(f"| {r['case']} | {r['same_top1']:.1%} | {db(r['sqnr_qdq_sim'])} | {r['identical']:.1%} | {db(r['sqnr_ort_ort'])} | {r['ort_same_top1']:.1%} |"
              f" {db(r['sqnr_sim_float'])} | {r['qdq_bytes'] / r['model_bytes']:.2f} |")
    if not aimet:
        return
    aimet_tables(aimet, json.loads((folder / "values.json").read_text()) if (folder / "values.json").exists() else [])
    print("\n## Time\n")
    print("Seconds on this machine, which others used too: ratios are rough. Ours with two workers, AIMET with two threads; its simulation of the images of the table above, times what is missing to ours.\n")
    print("| case | simulation / float | calibration / float | our calibration | AIMET's | our simulation | AIMET's |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(folder.glob("*/measure.json")):
        m, a = json.loads(path.read_text()), aimet.get(path.parent.name)
        if a and "calibrate_seconds" in a:
            print(f"| {path.parent.name} | {m['SimSeconds'] / m['FloatSeconds']:.2f} | {m['CalibrateSeconds'] / m['CalibrateFloatSeconds']:.1f} |"
                  f" {m['CalibrateSeconds']:.2f} | {a['calibrate_seconds']:.2f} | {m['SimSeconds']:.2f} | {a['sim_seconds'] * m['Evaluation'] / a['images']:.2f} |")


if __name__ == "__main__":
    main()
