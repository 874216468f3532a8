//go:build !race

package core

const poolLoss = 0

const raceDetector = false
