@a @b@c
  @d # comment
#x
@e#f
Feature: Cash

  @g
  Scenario: withdraw cash
    Given the account holds 100
  @h @中文 @with:colon(1)
  Scenario: refuse the card
