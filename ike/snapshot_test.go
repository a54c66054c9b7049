package ike

import (
	"fmt"
	"reflect"
	"strings"
)

// Snapshot prints everything a machine holds, secrets too, to compare it before and
// after an input that must change nothing. The configuration is left out.
func (m *Machine) Snapshot() string {
	var b strings.Builder
	m.verified = false // belongs to one input
	seen := map[uintptr]bool{}
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		if held(v, i) {
			fmt.Fprintf(&b, "%s=", v.Type().Field(i).Name)
			snap(&b, v.Field(i), seen)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// held tells whether field i belongs in a snapshot, of the machine or of one it points to.
func held(v reflect.Value, i int) bool {
	name := v.Type().Field(i).Name
	return v.Type() != reflect.TypeFor[Machine]() || name != "cfg" && name != "outq" && name != "head"
}

func snap(b *strings.Builder, v reflect.Value, seen map[uintptr]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || seen[v.Pointer()] {
			b.WriteString("nil")
			return
		}
		seen[v.Pointer()] = true
		snap(b, v.Elem(), seen)
	case reflect.Interface:
		if v.IsNil() {
			b.WriteString("nil")
			return
		}
		snap(b, v.Elem(), seen)
	case reflect.Struct:
		b.WriteByte('{')
		for i := range v.NumField() {
			if held(v, i) {
				fmt.Fprintf(b, "%s:", v.Type().Field(i).Name)
				snap(b, v.Field(i), seen)
				b.WriteByte(' ')
			}
		}
		b.WriteByte('}')
	case reflect.Slice, reflect.Array:
		b.WriteByte('[')
		for i := range v.Len() {
			snap(b, v.Index(i), seen)
			b.WriteByte(' ')
		}
		b.WriteByte(']')
	case reflect.Func, reflect.Chan, reflect.UnsafePointer, reflect.Map:
		fmt.Fprintf(b, "%v", v.Pointer())
	case reflect.String:
		fmt.Fprintf(b, "%q", v.String())
	case reflect.Bool:
		fmt.Fprint(b, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		fmt.Fprint(b, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		fmt.Fprint(b, v.Uint())
	case reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128, reflect.Invalid:
		b.WriteString("?")
	}
}
