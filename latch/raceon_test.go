//go:build race

package latch

const raceEnabled = true
