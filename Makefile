# One line each; CI runs .ci/run, which calls these.
.PHONY: build dist demo test check vet generate race fuzz arm64 arm64-cpus bench size
MAX_GO_LINES = 53500

build:    ; CGO_ENABLED=0 go build -trimpath -ldflags='-s -w -buildid=' -o bin/roundel ./cmd/roundel
dist:     ; sh bench/ci/dist.sh
demo:     ; go run ./cmd/roundel demo
test:     ; go test ./...
vet:      ; sh bench/ci/vet.sh
generate: ; cd asm/_gen && go test ./... -count=1
arm64:    ; CGO_ENABLED=0 GOARCH=arm64 go test -short -exec 'qemu-aarch64 -cpu max' ./asm ./tensor ./quantsim/encoding ./nn
arm64-cpus: ; for c in neoverse-n1 cortex-a76 cortex-a72; do CGO_ENABLED=0 GOARCH=arm64 go test -short -count=1 -exec "qemu-aarch64 -cpu $$c" ./asm ./tensor || exit 1; done
race:     ; go test -race -short ./...
fuzz:     ; sh bench/ci/fuzz.sh
bench:    ; sh bench/run.sh
size:     ; sh bench/ci/size.sh $(MAX_GO_LINES)
check:    ; bash .ci/run
