 Feature: x
　　Scenario: y
 Given not a step
    Given a step 
