// Package bench measures btns across its packages, in the process and against a
// baseline that is run in between: on a shared or throttled machine only the ratio
// of two things measured together means something.
//
// # Use
//
// ESP measures Seal and Open of package esp against the bare AEAD; IKE measures full
// handshakes of whole hosts against the bare cryptography, and what a tunnel takes in
// memory against TunnelTarget. A Report prints
// itself as a table (WriteTable) and marshals to the JSON object that every
// benchmark of this module shares:
//
//	{"machine": {"cpu", "flags", "kernel", "go"},
//	 "results": [{"name", "params", "unit", "median", "min", "max",
//	              "baseline", "ratio", "allocs_per_op"}]}
//
// # Concurrency and ownership
//
// ESP runs on one goroutine that is locked to its thread; IKE uses all cores. A measurement
// keeps no state behind and shares nothing. Two at once disturb each other.
//
// # Limits
//
// See limits.go for the sizes accepted.
package bench

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is the outcome of a benchmark.
type Report struct {
	Machine Machine  `json:"machine"`
	Results []Result `json:"results"`
	// Profile is where the CPU time went, where a result falls short of its target.
	Profile []Share `json:"profile,omitempty"`
}

// Machine says where a Report comes from. Fields are empty where the platform
// doesn't tell.
type Machine struct {
	CPU    string `json:"cpu"`
	Flags  string `json:"flags"`  // the CPU flags that matter to cryptography
	Kernel string `json:"kernel"` // release
	Go     string `json:"go"`
}

// Result is one measured quantity: statistics over rounds.
type Result struct {
	Name        string         `json:"name"` // such as "esp/seal"
	Params      map[string]any `json:"params"`
	Unit        string         `json:"unit"`
	Median      float64        `json:"median"`
	Min         float64        `json:"min"`
	Max         float64        `json:"max"`
	Baseline    float64        `json:"baseline"` // median of the baseline, same unit
	Ratio       float64        `json:"ratio"`    // Median / Baseline, higher is better
	AllocsPerOp float64        `json:"allocs_per_op"`
}

// WriteTable prints the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s (%s), kernel %s, %s\n\n", or(r.Machine.CPU, "unknown CPU"), or(r.Machine.Flags, "-"), or(r.Machine.Kernel, "-"), r.Machine.Go)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "name\tparams\tmedian\tmin\tmax\tbaseline\tratio\tallocs/op\tunit\t\n")
	for _, x := range r.Results {
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.3f\t%.2f\t%s\t\n",
			x.Name, params(x.Params), x.Median, x.Min, x.Max, x.Baseline, x.Ratio, x.AllocsPerOp, x.Unit)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Profile) > 0 {
		fmt.Fprintf(b, "\nshort of the target; CPU time by package:\n")
	}
	for _, s := range r.Profile[:min(len(r.Profile), maxShares)] {
		fmt.Fprintf(b, "%6.1f %%  %s\n", s.Percent, s.Package)
	}
	return b.Flush()
}

func or(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

func params(m map[string]any) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%s=%v", k, m[k])
	}
	return strings.Join(keys, " ")
}

// stats fills the statistics of r from samples of it and of its baseline.
func (r *Result) stats(samples, baseline []float64) {
	slices.Sort(samples)
	slices.Sort(baseline)
	r.Median, r.Min, r.Max = median(samples), samples[0], samples[len(samples)-1]
	r.Baseline = median(baseline)
	r.Ratio = r.Median / r.Baseline
}

// median of a sorted, non-empty list.
func median(s []float64) float64 {
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// ThisMachine describes the machine it runs on.
func ThisMachine() Machine {
	m := Machine{Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
	// These files exist on Linux only; elsewhere the fields stay empty.
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU, m.Flags = cpuinfo(string(b))
	}
	return m
}

// cpuinfo reads the model and the cryptographic flags from /proc/cpuinfo.
func cpuinfo(s string) (cpu, flags string) {
	for line := range strings.Lines(s) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "model name", "Model":
			if cpu == "" {
				cpu = value
			}
		case "flags", "Features":
			if flags == "" {
				flags = cryptoFlags(value)
			}
		}
	}
	return cpu, flags
}

func cryptoFlags(s string) string {
	var out []string
	for _, f := range strings.Fields(s) {
		switch f {
		case "aes", "pclmulqdq", "vaes", "vpclmulqdq", "avx2", "avx512f", "sha_ni", "bmi2", // amd64
			"pmull", "sha1", "sha2", "sha512", "sve", "asimd": // arm64
			out = append(out, f)
		}
	}
	return strings.Join(out, " ")
}
