//go:build race

package core

// poolLoss is what a call may allocate for objects that a sync.Pool lost: with the race detector it drops some on purpose.
const poolLoss = 4

const raceDetector = true
