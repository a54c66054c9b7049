//go:build !race

package latch

const raceEnabled = false
