/** Makes the images that tests boot, once, in $SKEP_TEST_HOME. */
