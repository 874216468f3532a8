//go:build !race

package metrics

const poolLoss = 0
