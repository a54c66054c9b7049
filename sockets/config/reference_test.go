package config

import (
	"regexp"
	"strings"
	"testing"
)

// TestReference: the reference is a good file, and names every key there is, in the section
// it belongs to.
func TestReference(t *testing.T) {
	if f, err := Parse("reference.yaml", []byte(Reference()), nil); err != nil {
		t.Fatal(err)
	} else if _, err := f.Check(); err != nil {
		t.Fatal(err)
	}
	// Sections that are commented out are read as well, whatever is wrong with them.
	text := regexp.MustCompile(`(?m)^( *)# ( *)([a-z_-]+:.*)$`).ReplaceAllString(Reference(), "$1$2$3")
	known, named := map[string]bool{}, map[string]bool{}
	r := newReader("reference.yaml")
	r.known = func(path, key string) { known[place(path+"."+key)] = true }
	if _, err := r.parse("reference.yaml", []byte(text), nil); err == nil {
		t.Fatal("nothing was commented out")
	}
	for path := range r.at {
		named[place(path)] = true
	}
	for key := range known {
		if !named[key] {
			t.Errorf("%s is not in the reference", key)
		}
	}
	if len(known) < 80 {
		t.Errorf("only %d keys known", len(known))
	}
}

// place is a path without the names that the file's author chose.
func place(path string) string {
	path = regexp.MustCompile(`\[\d+\]`).ReplaceAllString(path, "")
	path = regexp.MustCompile(`(connections|children|secrets|policies)\.[^.]+`).ReplaceAllString(path, "$1")
	return strings.TrimPrefix(path, ".")
}
