//! Tables for a terminal.

/// Renders rows of cells, each column as wide as its widest cell.
pub fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("  {}", padded.join("   ").trim_end())
    };
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    let mut lines = vec![
        line(&mut head.iter().copied()),
        line(&mut rule.iter().map(String::as_str)),
    ];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let table = super::render(
            &["a", "long"],
            &[
                vec!["wide cell".into(), "x".into()],
                vec!["ö".into(), "y".into()],
            ],
        );
        assert_eq!(
            table,
            "  a           long\n  ─────────   ────\n  wide cell   x\n  ö           y"
        );
    }
}
