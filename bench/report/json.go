package report

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What a report may have, so that reading a hostile one costs little.
const (
	maxFileBytes = 32 << 20
	maxFigures   = 1000
	maxLatencies = 64 // each takes 300 KiB
	maxSeries    = 256
	maxPoints    = 100_000 // of a series, and samples of a figure
)

// WriteJSON writes the report for [Read] and for other programs.
func (r *Report) WriteJSON(w io.Writer) error {
	r.tidy()
	r.Version = Version
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// ReadFile is Read of a file. Errors name it.
func ReadFile(name string) (*Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// Read reads what WriteJSON wrote, and nothing else: up to 32 MiB, of this version, without unknown keys, with numbers
// that belong together.
func Read(from io.Reader) (*Report, error) {
	b, err := io.ReadAll(io.LimitReader(from, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFileBytes {
		return nil, fmt.Errorf("over %s: no report of bench", humane(maxFileBytes, "B"))
	}
	var head struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("no report of bench: %w", err)
	}
	if head.Version == nil {
		return nil, errors.New("no report of bench: it has no version")
	}
	if *head.Version != Version {
		return nil, fmt.Errorf("version %d of bench's reports; this millpond reads version %d", *head.Version, Version)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var r Report
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("no report of bench: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("a report of bench that is broken: %w", err)
	}
	return &r, nil
}

// check says what of a report that was read can't be.
func (r *Report) check() error {
	switch {
	case r.Scenario == "":
		return errors.New("it has no scenario")
	case r.Duration < 0 || r.Connections < 0:
		return errors.New("duration or connections are negative")
	case len(r.Figures) > maxFigures || len(r.Latencies) > maxLatencies || len(r.Series) > maxSeries:
		return fmt.Errorf("%d figures, %d latencies, %d series; at most %d, %d, %d", len(r.Figures), len(r.Latencies), len(r.Series), maxFigures, maxLatencies, maxSeries)
	}
	seen := map[string]bool{}
	for _, f := range r.Figures {
		if f.Name == "" || seen["figure "+f.Name] {
			return fmt.Errorf("a figure is without a name, or there twice: %q", f.Name)
		}
		if len(f.Samples) > maxPoints {
			return fmt.Errorf("figure %q has %d samples, at most %d", f.Name, len(f.Samples), maxPoints)
		}
		seen["figure "+f.Name] = true
	}
	for _, d := range r.Latencies {
		if d == nil || d.Name == "" || seen["latency "+d.Name] {
			return errors.New("latencies are without a name, or there twice")
		}
		seen["latency "+d.Name] = true
	}
	for _, s := range r.Series {
		if err := s.check(); err != nil {
			return err
		}
	}
	return nil
}

func (s Series) check() error {
	if s.Name == "" || len(s.Points) > maxPoints {
		return fmt.Errorf("series %q is without a name, or has %d points, at most %d", s.Name, len(s.Points), maxPoints)
	}
	for i := range s.Points {
		if i > 0 && s.Points[i][0] < s.Points[i-1][0] {
			return fmt.Errorf("series %q goes back at point %d", s.Name, i+1)
		}
	}
	return nil
}

// distribution is how a Distribution is written. Quantiles, minimum and so on are for other readers: those of HDR are
// what counts.
type distribution struct {
	Name      string           `json:"name"`
	Unit      string           `json:"unit,omitempty"`
	Count     int64            `json:"count"`
	Over      uint64           `json:"over,omitempty"` // values over the highest that is told from others
	Mean      float64          `json:"mean"`
	Max       int64            `json:"max"`
	Quantiles map[string]int64 `json:"quantiles,omitempty"`
	HDR       string           `json:"hdr"` // HdrHistogram's V2 compressed format in base64
}

// quantiles are those that reports list.
var quantiles = []struct {
	Name string
	Q    float64
}{{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"p99.99", 0.9999}}

// MarshalJSON writes the histogram beside its quantiles.
func (d *Distribution) MarshalJSON() ([]byte, error) {
	hdr, err := d.h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, err
	}
	out := distribution{Name: d.Name, Unit: d.Unit, Count: d.Count(), Over: d.over, Mean: d.Mean(), Max: d.Max(), HDR: string(hdr), Quantiles: map[string]int64{}}
	for _, q := range quantiles {
		out.Quantiles[q.Name] = d.Quantile(q.Q)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads the histogram and ignores what is beside it but the count, which must be its.
func (d *Distribution) UnmarshalJSON(b []byte) error {
	var in distribution
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return err
	}
	h, err := decodeHDR(in.HDR)
	if err != nil {
		return fmt.Errorf("latencies %q: %w", in.Name, err)
	}
	if h.TotalCount() != in.Count || in.Over > uint64(in.Count) {
		return fmt.Errorf("latencies %q: a count of %d, %d of them over, and %d in the histogram", in.Name, in.Count, in.Over, h.TotalCount())
	}
	*d = Distribution{Name: in.Name, Unit: in.Unit, h: h, over: in.Over}
	return nil
}

// geometry is how all our histograms are laid out, in HDR's header: digits, lowest and highest value. Others
// could ask for hundreds of megabytes in a few bytes.
var geometry = func() []byte {
	b := binary.BigEndian.AppendUint32(nil, digits)
	b = binary.BigEndian.AppendUint64(b, 1)
	return binary.BigEndian.AppendUint64(b, uint64(highest))
}()

// decodeHDR reads a histogram of our geometry. The library bounds all else.
func decodeHDR(s string) (*hdrhistogram.Histogram, error) {
	compressed, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(compressed) < 8 {
		return nil, errors.New("hdr is no histogram in base64")
	}
	z, err := zlib.NewReader(bytes.NewReader(compressed[8:]))
	if err != nil {
		return nil, fmt.Errorf("hdr is no compressed histogram: %w", err)
	}
	header := make([]byte, hdrhistogram.ENCODING_HEADER_SIZE)
	if _, err := io.ReadFull(z, header); err != nil {
		return nil, fmt.Errorf("hdr is no compressed histogram: %w", err)
	}
	if !bytes.Equal(header[12:32], geometry) {
		return nil, errors.New("hdr is a histogram of other bounds than bench's")
	}
	return hdrhistogram.Decode([]byte(s))
}
