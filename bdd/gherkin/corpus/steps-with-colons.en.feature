Feature: a: b
  Rule: c: d
    Example: e: f
      Given: g
      Given g:
        | h: i |
