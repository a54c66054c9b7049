package config

import _ "embed" // reference.yaml

//go:embed reference.yaml
var reference string

// Reference is a file that names every key, with its meaning and default.
func Reference() string { return reference }
