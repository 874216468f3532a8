package report

import (
	"math"
	"strconv"
	"strings"
	"unicode"
)

// formatMicros writes a time for people, with three digits: "6.10 ms".
func formatMicros(us float64) string {
	switch {
	case us <= 0:
		return "0 s"
	case us < 1:
		return digits(us*1e3) + " ns"
	case us < 999.5:
		return digits(us) + " µs"
	case us < 999.5e3:
		return digits(us/1e3) + " ms"
	}
	return digits(us/1e6) + " s"
}

func formatMillis(ms float64) string { return formatMicros(ms * 1e3) }

// formatSeconds writes an instant or a length within a run: "12.35 s".
func formatSeconds(s float64) string { return strconv.FormatFloat(s, 'f', 2, 64) + " s" }

// digits writes a number that is not negative with three digits, or all of those before the point.
func digits(f float64) string {
	decimals := 0
	switch {
	case f < 9.995:
		decimals = 2
	case f < 99.95:
		decimals = 1
	}
	return grouped(strconv.FormatFloat(f, 'f', decimals, 64))
}

// formatRate writes calls per second, without the unit.
func formatRate(f float64) string { return digits(f) }

func formatInt(n int64) string { return grouped(strconv.FormatInt(n, 10)) }

// formatNumber writes a number in full where it is a whole one.
func formatNumber(f float64) string {
	if f == math.Trunc(f) {
		return grouped(strconv.FormatFloat(f, 'f', -1, 64))
	}
	return digits(f)
}

// grouped puts commas between the thousands.
func grouped(number string) string {
	sign, rest := "", number
	if strings.HasPrefix(rest, "-") {
		sign, rest = "-", rest[1:]
	}
	whole, fraction, hasFraction := strings.Cut(rest, ".")
	var b strings.Builder
	b.WriteString(sign)
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	if hasFraction {
		b.WriteString("." + fraction)
	}
	return b.String()
}

// formatShare writes a part of one as a percentage, with as many digits as a small one needs.
func formatShare(share float64) string {
	percent := share * 100
	switch {
	case percent == 0:
		return "0%"
	case percent < 0.0001:
		return "<0.0001%"
	}
	return strconv.FormatFloat(percent, 'g', 3, 64) + "%"
}

// formatRatio writes how many times as much one is as the other; 0 is a ratio that is not known.
func formatRatio(r float64) string {
	if r == 0 {
		return "-"
	}
	return digits(r) + "×"
}

// plain makes a text from elsewhere safe for a terminal: what cannot be printed, escape sequences among them, becomes U+FFFD.
func plain(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return unicode.ReplacementChar
	}, s)
}

// shorten cuts a text to a number of characters.
func shorten(s string, length int) string {
	r := []rune(s)
	if len(r) <= length {
		return s
	}
	return string(r[:length-1]) + "…"
}
