package data

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"roundel/internal/regular"
	"roundel/tensor"
)

// open lists the samples of path, whatever it is.
func (r reader) open(path string) ([]entry, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return r.folder(path)
	}
	entries, err := r.file(path, filepath.Base(path))
	if errors.Is(err, errNoData) {
		if entries, err = r.list(path); errors.Is(err, errNoData) {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return entries, err
}

var errNoData = errors.New("not a JPEG, PNG, .npy, .npz or idx file, nor a text file that lists some")

// file lists the samples of one file that is not a list, by its first bytes.
func (r reader) file(path, name string) ([]entry, error) {
	head, err := firstBytes(path)
	if err != nil {
		return nil, err
	}
	has := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	var entries []entry
	switch {
	case has("\xff\xd8\xff"), has("\x89PNG"):
		entries, err = r.image(path, name)
	case has(npyMagic):
		entries, err = r.npy(path, name)
	case has("PK\x03\x04"), has("PK\x05\x06"):
		entries, err = r.npz(path, name)
	case has("\x1f\x8b"), has("\x00\x00"):
		entries, err = r.idx(path, name)
	default:
		err = errNoData
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return entries, nil
}

func firstBytes(path string) ([]byte, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 8)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	return head[:n], nil
}

// maxImage bounds the bytes of an image file.
const maxImage = 1 << 28

// image is a source of one sample.
func (r reader) image(path, name string) ([]entry, error) {
	in, err := r.input()
	if err != nil {
		return nil, err
	}
	p := r.preprocess(Imagenet())
	return []entry{{name, NoLabel, func() (map[string]tensor.Any, error) {
		file, err := regular.ReadFile(path, maxImage)
		if err != nil {
			return nil, err
		}
		m, err := decodeImage(file)
		if err != nil {
			return nil, fmt.Errorf("the image cannot be decoded: %w", err)
		}
		t, err := p.tensor(p.geometry(m), in.DType == tensor.Uint8 && !p.changesValues())
		if err == nil {
			t, err = in.accept(t)
		}
		return map[string]tensor.Any{in.Name: t}, err
	}}}, nil
}

// folder lists the images and arrays below dir. Files in sub-folders have the first folder's class.
func (r reader) folder(dir string) ([]entry, error) {
	files, err := walk(dir, 0)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no file that ends in %s", dir, strings.Join(extensions, ", "))
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(slashed(dir, a), slashed(dir, b)) })
	classes, loose := classesOf(dir, files)
	if loose > 0 && len(classes) > 0 {
		return nil, fmt.Errorf("%s has %d files of its own beside those in sub-folders; move them into a class, or away", dir, loose)
	}
	var entries []entry
	for _, f := range files {
		name := slashed(dir, f)
		some, err := r.file(f, name)
		if err != nil {
			return nil, err
		}
		class, _, sub := strings.Cut(name, "/")
		for _, e := range some {
			if sub {
				e.label = classes[class]
			}
			entries = append(entries, e)
		}
	}
	return entries, nil
}

var extensions = []string{".jpg", ".jpeg", ".png", ".npy"}

// maxDepth bounds how deep folders are searched, for links that lead in a circle.
const maxDepth = 8

// walk returns the files below dir with a known extension, hidden ones excepted.
func walk(dir string, depth int) ([]string, error) {
	list, err := os.ReadDir(dir)
	if err != nil || depth > maxDepth {
		return nil, err
	}
	var files []string
	for _, d := range list {
		path := filepath.Join(dir, d.Name())
		isDir := d.IsDir()
		if d.Type()&fs.ModeSymlink != 0 {
			st, err := os.Stat(path)
			if err != nil {
				return nil, err
			}
			isDir = st.IsDir()
		}
		switch {
		case strings.HasPrefix(d.Name(), "."):
		case isDir:
			below, err := walk(path, depth+1)
			if err != nil {
				return nil, err
			}
			files = append(files, below...)
		case slices.Contains(extensions, strings.ToLower(filepath.Ext(path))):
			files = append(files, path)
		}
	}
	return files, nil
}

// classesOf numbers the sub-folders of dir that have files: in order, or by name when every name is a number.
// It also returns how many files are in dir itself.
func classesOf(dir string, files []string) (map[string]int, int) {
	classes, loose, numbers := map[string]int{}, 0, true
	for _, f := range files {
		class, _, sub := strings.Cut(slashed(dir, f), "/")
		if !sub {
			loose++
		} else if _, seen := classes[class]; !seen {
			classes[class] = len(classes)
			n, err := strconv.Atoi(class)
			numbers = numbers && err == nil && n >= 0
		}
	}
	if numbers {
		for class := range classes {
			classes[class], _ = strconv.Atoi(class)
		}
	}
	return classes, loose
}

// maxLine bounds the length of a line of a list.
const maxLine = 1 << 16

// list reads a text file of one path per line, each optionally followed by a class number. Empty lines
// and lines that begin with # do not count.
func (r reader) list(path string) ([]entry, error) {
	lines, err := textLines(path)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	var entries []entry
	for _, l := range lines {
		name, class := l.text, NoLabel
		if _, err := os.Stat(resolve(dir, name)); err != nil {
			name, class = cutLabel(l.text)
		}
		some, err := r.file(resolve(dir, name), name)
		if err != nil {
			return nil, fmt.Errorf("%s line %d: %w", path, l.number, err)
		}
		for _, e := range some {
			if class != NoLabel {
				e.label = class
			}
			entries = append(entries, e)
		}
	}
	return entries, nil
}

func resolve(dir, name string) string {
	if name = filepath.FromSlash(name); filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// line is a line of a text file.
type line struct {
	number int
	text   string
}

// textLines reads the lines that say something. A file with NUL bytes or very long lines is not text.
func textLines(path string) ([]line, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, maxLine)
	var lines []line
	for n := 1; s.Scan(); n++ {
		text := strings.TrimSpace(s.Text())
		if strings.ContainsRune(text, 0) {
			return nil, errNoData
		}
		if text != "" && text[0] != '#' {
			lines = append(lines, line{n, text})
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) || len(lines) == 0 && s.Err() == nil {
		return nil, errNoData
	}
	return lines, s.Err()
}

// cutLabel splits "name number"; without a number the label is NoLabel.
func cutLabel(s string) (string, int) {
	at := strings.LastIndexAny(s, " \t")
	n, err := strconv.Atoi(s[at+1:])
	if at < 0 || err != nil || n < 0 {
		return s, NoLabel
	}
	return strings.TrimSpace(s[:at]), n
}
