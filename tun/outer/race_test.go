//go:build race

package outer

const raceEnabled = true
