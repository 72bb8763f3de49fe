Feature: x
  Rule: r
    Background: b
      text
      Given z
        | a |
        """
        t
        """
      And q
    @t
    Example: e
      When w
        """
        u
        """
        | b |
    @u
    Rule: q
      Example: f
        Then g
