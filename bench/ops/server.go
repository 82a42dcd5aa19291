package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// server is a peer in a process of its own that answers one line of JSON with another.
type server struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	version string
}

// startServer starts a peer. OPENBLAS_CORETYPE, which can force an old kernel, is dropped; avx2 restricts the peer on purpose.
func startServer(args []string, avx2 bool, threads int) (*server, error) {
	s := &server{cmd: exec.Command(args[0], args[1:]...)}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "OPENBLAS_") && !strings.HasPrefix(e, "GOMAXPROCS=") {
			s.cmd.Env = append(s.cmd.Env, e)
		}
	}
	s.cmd.Env = append(s.cmd.Env, "GOMAXPROCS="+strconv.Itoa(threads))
	if avx2 {
		s.cmd.Env = append(s.cmd.Env, "OPENBLAS_CORETYPE=Haswell", "ATEN_CPU_CAPABILITY=avx2", "MKL_ENABLE_INSTRUCTIONS=AVX2", "ONEDNN_MAX_CPU_ISA=AVX2")
	}
	s.cmd.Stderr = os.Stderr
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	var hello struct{ Version string }
	if err := s.read(&hello); err != nil {
		s.stop()
		return nil, fmt.Errorf("it did not start: %w", err)
	}
	s.version = hello.Version
	return s, nil
}

// stop ends the process: it ends when its input does.
func (s *server) stop() {
	s.in.Close()
	_ = s.cmd.Wait()
}

func (s *server) ask(request, answer any) error {
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := s.in.Write(append(b, '\n')); err != nil {
		return err
	}
	return s.read(answer)
}

func (s *server) read(answer any) error {
	line, err := s.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(line, answer)
}
