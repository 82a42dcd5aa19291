# One line each; CI runs .ci/run, which calls these.
.PHONY: build demo test check vet generate race fuzz arm64 bench size
MAX_GO_LINES = 48000

build:    ; CGO_ENABLED=0 go build -trimpath -ldflags='-s -w -buildid=' -o bin/roundel ./cmd/roundel
demo:     ; go run ./cmd/roundel demo
test:     ; go test ./...
vet:      ; sh bench/ci/vet.sh
generate: ; cd asm/_gen && go test ./... -count=1
arm64:    ; CGO_ENABLED=0 GOARCH=arm64 go test -short -exec 'qemu-aarch64 -cpu max' ./asm ./tensor ./quantsim/encoding ./nn
race:     ; go test -race -short ./...
fuzz:     ; sh bench/ci/fuzz.sh
bench:    ; sh bench/run.sh
size:     ; sh bench/ci/size.sh $(MAX_GO_LINES)
check:    ; bash .ci/run
