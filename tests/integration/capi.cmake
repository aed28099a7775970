# The runtime's C interface, from specs to numbers.
gdn_add_test(integration_capi_jit SOURCES capi_jit.cpp LIBRARIES gdn_jit gdn gdn_oracle gdn_spec TIMEOUT 300)
set_tests_properties(integration_capi_jit PROPERTIES ENVIRONMENT GDN_CACHE_DIR=${CMAKE_CURRENT_BINARY_DIR}/cache)
set(libraries GDN_LIBRARY=$<TARGET_FILE:gdn> GDN_JIT_LIBRARY=$<TARGET_FILE:gdn_jit>
              GDN_CACHE_DIR=${CMAKE_CURRENT_BINARY_DIR}/cache)
gdn_add_python_test(test_python_package ENVIRONMENT ${libraries})
gdn_add_python_test(test_examples ENVIRONMENT ${libraries} GDN_EXAMPLE_C=$<TARGET_FILE:example_decode_c>
                                              GDN_EXAMPLE_CPP=$<TARGET_FILE:example_decode_cpp>)
