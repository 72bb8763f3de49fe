# language: en-lol
OH HAI: x
  MISHUN: y
    I CAN HAZ a
    WEN b
    DEN c
    AN d
    BUT e
