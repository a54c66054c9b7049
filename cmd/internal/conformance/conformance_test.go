package conformance

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// TestClaims reads the tree this file is in.
func TestClaims(t *testing.T) {
	found, err := Scan(os.DirFS(filepath.Join("..", "..", "..")))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Compare(found, Lists(), Claims())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range r.Missing {
		t.Errorf("%s is claimed and no test carries its number", id)
	}
	for _, id := range r.Unknown {
		t.Errorf("no list has %s", id)
	}
	for i, n := range r.Counts {
		t.Logf("%-8s %2d covered, %2d claimed, of %2d (%s)", n.List, n.Covered, n.Claimed, n.Size, Lists()[i].About)
	}
	t.Logf("covered and not claimed: %s", strings.Join(r.Spare, " "))

	rec := CompareRecord(found, Record(), Excused())
	for _, w := range rec.Wrong {
		t.Error(w)
	}
	t.Logf("record of mistakes: %d rows, %d tested, %d excused", len(Record()), rec.Tested, rec.Excused)
	for i := range Record() {
		if why, ok := Excused()["ROW-"+strconv.Itoa(i+1)]; ok {
			t.Logf("ROW-%d is excused: %s", i+1, why)
		}
	}
}

// TestRecordTurnsRed breaks each promise once.
func TestRecordTurnsRed(t *testing.T) {
	record := []Row{{[]string{"2018-1", "2018-2"}, "a", "b"}, {nil, "c", "d"}, {nil, "e", "f"}}
	tests := func(ids ...string) Covered {
		c := Covered{"ADV-A1": {"x"}}
		for _, id := range ids {
			c[id] = []string{"x_test.go:Test"}
		}
		return c
	}
	why := map[string]string{"ROW-3": "not here"}
	for _, c := range []Covered{tests("CVE-2018-2", "ROW-2"), tests("ROW-1", "ROW-2")} {
		if d := cmp.Diff(RecordReport{Tested: 2, Excused: 1}, CompareRecord(c, record, why)); d != "" {
			t.Error(d)
		}
	}
	for name, r := range map[string]RecordReport{
		"neither tested nor excused": CompareRecord(tests("ROW-2"), record, why),
		"tested and excused":         CompareRecord(tests("ROW-1", "ROW-2", "ROW-3"), record, why),
		"no such CVE":                CompareRecord(tests("ROW-1", "ROW-2", "CVE-2018-3"), record, why),
		"no such row":                CompareRecord(tests("ROW-1", "ROW-2", "ROW-4"), record, why),
		"no reason":                  CompareRecord(tests("ROW-1", "ROW-2"), record, map[string]string{"ROW-3": ""}),
		"excuse for no row":          CompareRecord(tests("ROW-1", "ROW-2"), record, map[string]string{"ROW-3": "x", "ROW-4": "x"}),
		"excuse for a CVE":           CompareRecord(tests("ROW-2", "ROW-3"), record, map[string]string{"CVE-2018-1": "x"}),
		"one CVE in two rows":        CompareRecord(tests("ROW-1", "ROW-2"), []Row{record[0], {[]string{"2018-1"}, "c", "d"}}, nil),
	} {
		if len(r.Wrong) == 0 {
			t.Errorf("%s: nothing is wrong", name)
		}
	}
	if n := len(Record()); n != 97 {
		t.Errorf("%d rows, the record has 97", n)
	}
}

func TestIDs(t *testing.T) {
	for name, want := range map[string][]string{
		"TestADV_B17_NonceLength":          {"ADV-B17"},
		"TestADV_A14_A15_PayloadChains":    {"ADV-A14", "ADV-A15"},
		"FuzzADV_A1_Header":                {"ADV-A1"},
		"TestLATCH_12_13_Stay":             {"LATCH-12", "LATCH-13"},
		"TestBTNS_3_LATCH_5_Both":          {"BTNS-3", "LATCH-5"},
		"TestCVE_2018_16151_LaxPadding":    {"CVE-2018-16151"},
		"TestADV_D11_CVE_2018_16151_RSA":   {"ADV-D11", "CVE-2018-16151"},
		"TestADV_B3_B4_D25_Unknown":        {"ADV-B3", "ADV-B4", "ADV-D25"},
		"TestBTNS6_8_12_Signature":         {"BTNS-6", "BTNS-8", "BTNS-12"},
		"TestBTNS10_ADV_L25_NoFallThrough": {"BTNS-10", "ADV-L25"},
		"TestLATCH25_ConflictRule":         {"LATCH-25"},
		"TestLATCHES_3":                    nil,
		"TestADV_Payloads_B3":              nil,
		"TestADVANCE_B3":                   nil,
		"TestROW_49_52_Fuzzed":             {"ROW-49", "ROW-52"},
		"TestADV_D4_ROW_78_PadLength":      {"ADV-D4", "ROW-78"},
		"TestLATCH_Broken":                 nil,
		"TestRFC8032Vectors":               nil,
		"TestCVE_Old":                      nil,
		"TestADV_Z99_NotInAnyList":         {"ADV-Z99"},
		"TestSomething_ADV_A1_InTheMiddle": {"ADV-A1"},
	} {
		if got := idsOfName(name); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for text, want := range map[string][]string{
		"ADV-E6 not granted":     {"ADV-E6"},
		"ADV-E2 ":                {"ADV-E2"},
		"LATCH-3, LATCH-5: x":    {"LATCH-3", "LATCH-5"},
		"CVE-2015-3991/ADV-A13":  {"CVE-2015-3991", "ADV-A13"},
		"ROW-48: x":              {"ROW-48"},
		"see ADV-E6":             nil,
		"ADV-E6x":                nil,
		"BTNS-10 is not BTNS-11": {"BTNS-10"},
	} {
		if got := idsOfText(text); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func tree(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, src := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(src)}
	}
	return fsys
}

func TestScan(t *testing.T) {
	got, err := Scan(tree(map[string]string{
		"a/a_test.go": `package a
func TestADV_A1_Short(t *testing.T) { for _, name := range []string{"ADV-A2 keepalive", "not ADV-A3"} { t.Run(name, nil) } }
func (x T) TestADV_A4_Method() {}
func helperADV_A5_() {}
const ADV_A6 = "ADV-A6"`,
		"a/b_test.go":                          "package a\nfunc FuzzADV_A1_Header(f *testing.F) {}",
		"a/a.go":                               "package a\nfunc TestADV_A7_NotATestFile() {}",
		"a/testdata/x_test.go":                 "package x\nfunc TestADV_A8_Data() {}",
		"cmd/internal/conformance/own_test.go": "package conformance\nfunc TestADV_A9_Example() {}",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := Covered{
		"ADV-A1": {"a/a_test.go:TestADV_A1_Short", "a/b_test.go:FuzzADV_A1_Header"},
		"ADV-A2": {"a/a_test.go:TestADV_A1_Short"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := Scan(tree(map[string]string{"x_test.go": "package"})); err == nil {
		t.Error("a file that does not parse was passed over")
	}
}

// TestCompareTurnsRed breaks each promise once.
func TestCompareTurnsRed(t *testing.T) {
	lists := []List{{"LATCH-", 4, ""}, {"ADV-A", 12, ""}}
	covered := Covered{"LATCH-1": {"x"}, "ADV-A2": {"x"}, "ADV-A10": {"x"}, "ADV-A3": {"x"}, "CVE-2018-1": {"x"}}

	r, err := Compare(covered, lists, []string{"LATCH-1", "ADV-A2-A3"})
	if err != nil {
		t.Fatal(err)
	}
	want := Report{
		Spare:  []string{"ADV-A10"},
		Counts: []Count{{"LATCH-n", 1, 1, 4}, {"ADV-An", 3, 2, 12}},
	}
	if d := cmp.Diff(want, r); d != "" {
		t.Error(d)
	}

	r, err = Compare(covered, lists, []string{"LATCH-1-3", "ADV-A12"})
	if err != nil || !slices.Equal(r.Missing, []string{"ADV-A12", "LATCH-2", "LATCH-3"}) {
		t.Errorf("missing %v, %v", r.Missing, err)
	}
	covered["ADV-A13"] = []string{"y_test.go:TestADV_A13_Typo"}
	r, err = Compare(covered, lists, nil)
	if err != nil || !slices.Equal(r.Unknown, []string{"ADV-A13 in y_test.go:TestADV_A13_Typo"}) {
		t.Errorf("unknown %v, %v", r.Unknown, err)
	}
	for _, claim := range []string{"ADV-A13", "LATCH-0", "LATCH-5", "BTNS-1", "ADV-A3-B4", "ADV-A3-2", "A3", "", "LATCH-1-99999999999999999999"} {
		if _, err := Compare(covered, lists, []string{claim}); err == nil {
			t.Errorf("the claim %q was accepted", claim)
		}
	}
	if _, err := Compare(covered, lists, []string{"LATCH-1-3", "LATCH-2"}); err == nil {
		t.Error("a claim was accepted twice")
	}
}
