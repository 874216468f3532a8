package report

import (
	"strings"
	"unicode/utf8"
)

// lineWidth is how many columns a text for a terminal has at most, where it can be broken at all.
const lineWidth = 120

// table is a table of text: the first column to the left, numbers to the right.
type table struct {
	rows [][]string
	left int // columns that are aligned to the left; at least the first
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table; the first column is cut if a line would be too long.
func (t *table) write(b *strings.Builder, indent string) {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	width := len(indent) + 2*(len(widths)-1)
	for _, w := range widths {
		width += w
	}
	if width > lineWidth {
		widths[0] = max(widths[0]-(width-lineWidth), 8)
	}
	for _, row := range t.rows {
		t.writeRow(b, indent, row, widths)
	}
}

func (t *table) writeRow(b *strings.Builder, indent string, row []string, widths []int) {
	var line strings.Builder
	line.WriteString(indent)
	for i, cell := range row {
		if i > 0 {
			line.WriteString("  ")
		}
		cell = shorten(cell, widths[i])
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if i < max(t.left, 1) {
			line.WriteString(cell + pad)
		} else {
			line.WriteString(pad + cell)
		}
	}
	b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

// writeWrapped writes a text in lines that are not too long: the first behind a label, the others under its beginning.
func writeWrapped(b *strings.Builder, label, text string) {
	indent := strings.Repeat(" ", utf8.RuneCountInString(label))
	line := label
	for i, word := range strings.Fields(text) {
		if i > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > lineWidth {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += word
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}
