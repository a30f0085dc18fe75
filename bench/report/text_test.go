package report

import (
	"bytes"
	"strings"
	"testing"
)

func TestHumane(t *testing.T) {
	for _, tt := range []struct {
		value float64
		unit  string
		want  string
	}{
		{0, "", "0"},
		{1799880, "", "1,799,880"},
		{-1234, "", "-1,234"},
		{0.25, "", "0.25"},
		{1e-9, "", "0"},
		{6.4123, "us", "6.41 µs"},
		{999, "ns", "999 ns"},
		{60e6, "ns", "60 ms"},
		{0.0021, "s", "2.1 ms"},
		{90, "s", "90 s"},
		{99.96, "ms", "100 ms"},
		{334, "B", "334 B"},
		{4300, "B", "4,300 B"},
		{10 << 10, "B", "10 KiB"},
		{1.5 * (1 << 30), "B", "1.5 GiB"},
		{189123.4, "/s", "189,123 /s"},
		{4.666, "%", "4.67 %"},
		{1.0812, "x", "1.08 ×"},
		{3, "furlongs", "3 furlongs"},
	} {
		if got := humane(tt.value, tt.unit); got != tt.want {
			t.Errorf("%v %s is %q, want %q", tt.value, tt.unit, got, tt.want)
		}
	}
}

func TestText(t *testing.T) {
	r := sample()
	r.Cut = true
	r.Fail("evil \x1b[2J\u202e error", 1)
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"echo: 10,000 connections, 10s\n", "CUT SHORT", "189,123 /s", "✓ at most 512 B", "✗ at most 5 µs", "not measured                   of the server; its metrics are not known: --metrics",
		"ERRORS\n    ✗ 3  connection reset by peer\n", "! the client was the bottleneck", "on Linux 6.18.0 amd64, A CPU, 2 cores, 23 GiB, go1.26.8, millpond v0",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.ContainsAny(got, "\x1b\u202e") {
		t.Error("an error of the server reaches the terminal as it is")
	}
	t.Log("\n" + got)
}
