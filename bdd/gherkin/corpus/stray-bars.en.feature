Feature: x
  Scenario: y
    Given z
      | a | b | c
      | d | e \| | f \|
      |g|h| 
